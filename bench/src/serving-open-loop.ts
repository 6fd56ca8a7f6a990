import { alternate, median, writeResult } from './rounds.ts'
import { type Call, callOf, type Load } from './serving-calls.ts'
import { smallModel } from './serving-model.ts'
import { type Contender, type ServingBenchOptions, startEcho, stopAll, withServings } from './serving-servers.ts'

const perSecond = 500
const mostP99Ms = 5

/** Single rows on a timetable that waits for nobody; a call's clock runs from the time at which it was due. Echoes say what machine and callers add. */
export function benchServingOpenLoop({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  return withServings({ model: smallModel, batching: { Spillway: {} } }, async ([serving], callers) => {
    const load: Load = { kind: 'open', perSecond, seconds }
    const echoes: Contender[] = []
    const found = new Map<string, { p50Ms: number[]; maxMs: number[] }>()
    const contender = (name: string, server: Contender, call: Call): { name: string; run: () => Promise<number> } => {
      const others = { p50Ms: [] as number[], maxMs: [] as number[] }
      found.set(name, others)
      return {
        name,
        run: async () => {
          const { p50Ms, p99Ms, maxMs } = await callers.allAnswered(server, call, load)
          others.p50Ms.push(p50Ms)
          others.maxMs.push(maxMs)
          return p99Ms
        },
      }
    }
    try {
      const contenders = []
      for (const protocol of ['grpc', 'rest'] as const) {
        const call = callOf(protocol, smallModel.name, 1, smallModel.widths[0]!)
        const { answer } = await callers.allAnswered(serving!, call, { kind: 'closed', callers: 16, seconds: 1.5 })
        const echo = await startEcho(call.protocol, answer)
        echoes.push(echo)
        await callers.allAnswered(echo, call, { kind: 'closed', callers: 16, seconds: 1 })
        contenders.push(
          contender(protocol === 'grpc' ? 'gRPC, p99' : 'REST, p99', serving!, call),
          contender(`${echo.name}, p99`, echo, call),
        )
      }
      const figures = await alternate(rounds, contenders)
      const own = figures.filter(({ name }) => !name.includes('echo'))
      writeResult({
        benchmark: 'serving-open-loop',
        unit: 'ms',
        setup: `${perSecond} calls a second of one row each, MLP ${smallModel.widths.join('-')}, ${seconds} s a round; latency from the time at which a call was due, late or not; server and callers in processes of their own.`,
        figures,
        target: `p99 ≤ ${mostP99Ms} ms`,
        reached: own.map(({ name, median: p99 }) => `${name} ${p99.toFixed(2)} ms`).join('; '),
        met: own.every(({ median: p99 }) => p99 <= mostP99Ms),
        notes: [...found].map(
          ([name, { p50Ms, maxMs }]) =>
            `${name.replace(', p99', '')}: p50 ${median(p50Ms).toFixed(2)} ms, the longest ${Math.max(...maxMs).toFixed(1)} ms`,
        ),
      })
    } finally {
      await stopAll(echoes)
    }
  })
}
