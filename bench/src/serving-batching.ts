import { alternate, figures, median, writeResult } from './rounds.ts'
import { callOf } from './serving-calls.ts'
import { bareRuns, checkScores, wideModel } from './serving-model.ts'
import { type Serving, type ServingBenchOptions, withServings } from './serving-servers.ts'

const callerCount = 64
const width = wideModel.widths[0]!

/**
 * Requests of many callers in common runs against each in a run of its own, on a model whose weights do not fit in the processor's nearest memory: a run
 * reads them all, however many rows it has.
 */
export function benchServingBatching({ rounds, seconds }: ServingBenchOptions): Promise<void> {
  return withServings({ model: wideModel, batching: { on: {}, off: { maxBatchRows: 1 } } }, async ([on, off], callers, repository) => {
    const call = callOf('grpc', wideModel.name, 1, width)
    const { scores } = await bareRuns({ file: repository.file, rows: 1, width, seconds: 0.1 })
    for (const serving of [on!, off!]) {
      const { answer } = await callers.allAnswered(serving, call, { kind: 'closed', callers: callerCount, seconds: 1 })
      checkScores(serving.name, 'grpc', answer, scores)
    }
    const throughput = await alternate(
      rounds,
      [on!, off!].map((serving) => ({
        name: `batching ${serving.name}, ${callerCount} callers`,
        run: async () => (await callers.allAnswered(serving, call, { kind: 'closed', callers: callerCount, seconds })).perSecond,
      })),
    )
    const p50Ms = async (serving: Serving): Promise<number> =>
      (await callers.allAnswered(serving, call, { kind: 'closed', callers: 1, seconds: Math.min(seconds, 2) })).p50Ms
    const light = await alternate(
      // A difference of parts of a millisecond in one of several: more and shorter rounds.
      rounds * 2,
      [on!, off!].map((serving) => ({ name: `batching ${serving.name}, 1 caller, p50`, run: () => p50Ms(serving) })),
    )
    const gain = median(throughput[0]!.rounds.map((rate, i) => rate / throughput[1]!.rounds[i]!))
    const addedMs = figures(
      'added p50, 1 caller',
      light[0]!.rounds.map((ms, i) => ms - light[1]!.rounds[i]!),
    )
    writeResult({
      benchmark: 'serving-batching',
      unit: 'calls/s',
      setup: `single rows by gRPC, MLP ${wideModel.widths.join('-')}: 34 MB of weights, which every run reads, so that a run of many rows costs little more than a run of one. ${seconds} s a round; batching off: max_batch_size 1. Both with the service’s defaults else, in processes of their own, as the callers are.`,
      figures: [...throughput, ...[...light, addedMs].map((line) => ({ ...line, unit: 'ms' }))],
      target: `≥ 3 × with ${callerCount} callers; p50 added with one caller ≤ 0.2 ms`,
      reached: `${gain.toFixed(1)} ×; p50 added ${addedMs.median.toFixed(2)} ms`,
      met: gain >= 3 && addedMs.median <= 0.2,
      notes: ['the gain and the added p50 are the medians of the rounds’ own'],
    })
  })
}
