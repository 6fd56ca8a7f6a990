import { setTimeout as wait } from 'node:timers/promises'
import { alternate, median, writeResult } from './rounds.ts'
import { type Call, callOf } from './serving-calls.ts'
import type { HeartbeatReport } from './serving-heartbeat-timer.ts'
import { smallModel } from './serving-model.ts'
import { type ServingBenchOptions, withServings } from './serving-servers.ts'

const mostTimesIdle = 5
const width = smallModel.widths[0]!

interface Situation {
  readonly name: string
  /** None: idle. */
  readonly load?: { readonly call: Call; readonly callers: number }
}

const situations: readonly Situation[] = [
  { name: 'idle' },
  { name: 'gRPC, 64 callers', load: { call: callOf('grpc', smallModel.name, 1, width), callers: 64 } },
  { name: 'REST, 64 callers', load: { call: callOf('rest', smallModel.name, 1, width), callers: 64 } },
  { name: 'gRPC, 64 rows a call, 16 callers', load: { call: callOf('grpc', smallModel.name, 64, width), callers: 16 } },
]

/** What else the serving process has to do (health, metrics, other models) waits for its event loop: how long, with as much load as it takes? */
export function benchServingHeartbeat({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  return withServings({ model: smallModel, batching: { Spillway: {} } }, async ([serving], callers) => {
    const reports = situations.map((): HeartbeatReport[] => [])
    const play = async ({ load }: Situation): Promise<HeartbeatReport> => {
      await serving!.startHeartbeat()
      if (load === undefined) await wait(seconds * 1000)
      else await callers.allAnswered(serving!, load.call, { kind: 'closed', callers: load.callers, seconds })
      return serving!.stopHeartbeat()
    }
    for (const { load } of situations)
      if (load !== undefined) await callers.allAnswered(serving!, load.call, { kind: 'closed', callers: load.callers, seconds: 1.5 })
    const figures = await alternate(
      rounds,
      situations.map((situation, i) => ({
        name: situation.name,
        run: async () => {
          const report = await play(situation)
          reports[i]!.push(report)
          return report.p99Ms
        },
      })),
    )
    const [idle, ...loaded] = figures
    // Against the median of all idle rounds: a single one that the machine disturbed would make what is held against it look good.
    const times = loaded.map(({ median: p99Ms }) => p99Ms / idle!.median)
    writeResult({
      benchmark: 'serving-heartbeat',
      unit: 'ms',
      setup: `p99 of how late a timer of the serving process comes that is due every 10 ms of a timetable; MLP ${smallModel.widths.join('-')}, callers that wait for their answers, in a process of their own, ${seconds} s a round.`,
      figures,
      target: `p99 ≤ ${mostTimesIdle} × idle`,
      reached: times.map((factor, i) => `${loaded[i]!.name}: ${factor.toFixed(1)} × idle`).join('; '),
      met: times.every((factor) => factor <= mostTimesIdle),
      notes: situations.map(({ name }, i) => {
        const of = (read: (report: HeartbeatReport) => number): number => median(reports[i]!.map(read))
        return `${name}: p50 ${of(({ p50Ms }) => p50Ms).toFixed(2)} ms, the longest ${Math.max(...reports[i]!.map(({ maxMs }) => maxMs)).toFixed(1)} ms; nodejs_eventloop_lag_p99_seconds, which counts from one look to the next, 10 ms apart: ${of(({ lagMetricP99Ms }) => lagMetricP99Ms).toFixed(1)} ms`
      }),
    })
  })
}
