import type { Batch } from '@spillway/core'
import type { FeatureEngine, FeatureResult } from './engine.ts'

/** One input's consecutive events, as the engine takes them. */
export interface ExportSlice {
  readonly input: string
  readonly batch: Batch
}

/**
 * Features for training, by the very code that serves them: gives the engine slice after slice as a stream, in the order given, and yields what it made of each
 * (nothing for an input that only feeds histories, unless rows of it failed). Rows without a position get one: topic = the input, partition 0, counting up.
 * An engine on a store in memory is enough: `new EmbeddedHistoryStore({ path: ':memory:' })`.
 */
export async function* exportFeatures(
  engine: FeatureEngine,
  slices: Iterable<ExportSlice> | AsyncIterable<ExportSlice>,
): AsyncGenerator<FeatureResult & { readonly input: string }> {
  const next = new Map<string, number>()
  for await (const { input, batch } of slices) {
    const first = next.get(input) ?? 0
    next.set(input, first + batch.rowCount)
    const result = await engine.compute(positioned(batch, input, first), input, 'stream')
    if (result.batch.rowCount > 0 || result.failures.length > 0) yield { input, ...result }
  }
}

function positioned(batch: Batch, input: string, first: number): Batch {
  if (batch.rowCount === 0 || batch.meta.offsets[0]! >= 0n) return batch
  const meta = {
    ...batch.meta,
    topics: new Array<string>(batch.rowCount).fill(input),
    partitions: new Int32Array(batch.rowCount),
    offsets: BigInt64Array.from({ length: batch.rowCount }, (_, row) => BigInt(first + row)),
  }
  return { ...batch, meta }
}
