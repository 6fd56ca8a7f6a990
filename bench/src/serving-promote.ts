import { setTimeout as wait } from 'node:timers/promises'
import { alternate, median, writeResult } from './rounds.ts'
import { callOf, type CallersReport, type Load, scoresOf } from './serving-calls.ts'
import { smallModel } from './serving-model.ts'
import { type Callers, type Serving, type ServingBenchOptions, withServings } from './serving-servers.ts'

const pauseMs = 500
const mostTimesBefore = 2
const call = callOf('grpc', smallModel.name, 1, smallModel.widths[0]!)

/** Another version and back, again and again, at half of what the service can take: does a call fail, or wait? */
export function benchServingPromote({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  return withServings({ model: smallModel, versions: 2, batching: { Spillway: {} } }, async ([serving], callers) => {
    await callers.allAnswered(serving!, call, { kind: 'closed', callers: 64, seconds: 1.5 })
    const saturation = await callers.allAnswered(serving!, call, { kind: 'closed', callers: 64, seconds: Math.max(2, seconds / 2) })
    const load: Load = { kind: 'open', perSecond: Math.round(saturation.perSecond / 2), seconds }
    const promotions: number[] = []
    const versions = new Set<number>()
    let failed = 0
    const count = (report: CallersReport): number => {
      failed += Object.entries(report.outcomes).reduce((sum, [outcome, calls]) => (outcome === '0' ? sum : sum + calls), 0)
      versions.add(scoresOf('grpc', report.answer)[0]!)
      return report.p99Ms
    }
    const startMiB = (await serving!.usage()).rssMiB
    const figures = await alternate(rounds, [
      { name: 'before, p99', run: async () => count(await callers.run(serving!, call, load)) },
      { name: 'during, p99', run: async () => count(await whilePromoting(serving!, callers, load, promotions)) },
    ])
    const endMiB = (await serving!.usage()).rssMiB
    const times = median(figures[1]!.rounds.map((ms, i) => ms / figures[0]!.rounds[i]!))
    writeResult({
      benchmark: 'serving-promote',
      unit: 'ms',
      setup: `${load.perSecond} calls a second by gRPC, half of what 64 callers that wait got answered, of one row each, MLP ${smallModel.widths.join('-')}; latency from the time at which a call was due; ${seconds} s a round. During: version 1 and version 2 promoted in turn, ${pauseMs} ms apart, each loaded from its file.`,
      figures,
      target: `0 failed; p99 during ≤ ${mostTimesBefore} × before`,
      reached: `${failed} failed in ${promotions.length} promotions; p99 during ${times.toFixed(2)} × before`,
      // Both versions have answered, or nothing was promoted.
      met: failed === 0 && times <= mostTimesBefore && promotions.length > 1,
      notes: [
        `a promotion took ${median(promotions).toFixed(0)} ms, the longest ${Math.max(...promotions).toFixed(0)} ms`,
        `the serving process had ${startMiB.toFixed(0)} MiB before the first and ${endMiB.toFixed(0)} MiB after the last`,
      ],
    })
  })
}

async function whilePromoting(serving: Serving, callers: Callers, load: Load, promotions: number[]): Promise<CallersReport> {
  const called = callers.run(serving, call, load)
  for (let next = 1; ; next = 3 - next) {
    promotions.push(await serving.promote(String(next)))
    const report = await Promise.race([called, wait(pauseMs)])
    if (report !== undefined) return report
  }
}
