import { type Batch, rowMeta, type Tensor } from '@spillway/core'
import {
  compileFeatures,
  EmbeddedHistoryStore,
  type FeatureEngine,
  type FeatureInput,
  type FeaturePlan,
  featuresSchema,
  type FieldType,
} from '../src/mod.ts'

export const hourMs: number = 3_600_000
export const dayMs: number = 24 * hourMs

export function featureInput(fields: Readonly<Record<string, FieldType>>, more: Partial<FeatureInput> = {}): FeatureInput {
  return { fields: new Map(Object.entries(fields)), latenessMs: 7 * dayMs, predict: true, ...more }
}

/** A payment input by customer, and labels by shop. */
export const inputs: ReadonlyMap<string, FeatureInput> = new Map([
  [
    'payments',
    featureInput(
      { customer: 'string', shop: 'integer', amount: 'number', at: 'timestamp', channel: 'string', online: 'boolean' },
      { keyField: 'customer', timeField: 'at' },
    ),
  ],
  [
    'labels',
    featureInput(
      { shop: 'integer', at: 'timestamp', fraud: 'boolean' },
      { keyField: 'shop', timeField: 'at', predict: false, latenessMs: 30 * dayMs },
    ),
  ],
])

export function plan(section: unknown, of: ReadonlyMap<string, FeatureInput> = inputs): FeaturePlan {
  return compileFeatures(featuresSchema.parse(section), of)
}

export interface Payment {
  readonly customer?: string
  readonly shop?: number
  readonly amount?: number
  readonly timeMs: number
  readonly channel?: string
  readonly online?: boolean
  readonly fraud?: boolean
}

/** Consecutive events of partition 0 of the input's topic; without `firstOffset` they have no position, as in a call. */
export function batchOf(input: string, events: readonly Payment[], firstOffset?: number): Batch {
  const rowCount = events.length
  const shape = [rowCount]
  const timesMs = Float64Array.from(events, ({ timeMs }) => timeMs)
  const encoder = new TextEncoder()
  const bytes = (values: readonly string[]): Tensor => {
    const encoded = values.map((value) => encoder.encode(value))
    const offsets = new Uint32Array(rowCount + 1)
    encoded.forEach((value, row) => (offsets[row + 1] = offsets[row]! + value.length))
    return { datatype: 'BYTES', shape, data: { bytes: new Uint8Array(Buffer.concat(encoded)), offsets } }
  }
  const meta = rowMeta(rowCount, {
    eventTimesMs: timesMs,
    ...(firstOffset !== undefined && {
      topics: new Array<string>(rowCount).fill(input),
      partitions: new Int32Array(rowCount),
      offsets: BigInt64Array.from(events, (_, row) => BigInt(firstOffset + row)),
    }),
  })
  const columns = new Map<string, Tensor>([
    ['customer', bytes(events.map(({ customer }) => customer ?? 'c'))],
    ['shop', { datatype: 'INT64', shape, data: BigInt64Array.from(events, ({ shop }) => BigInt(shop ?? 1)) }],
    ['amount', { datatype: 'FP64', shape, data: Float64Array.from(events, ({ amount }) => amount ?? 1) }],
    ['at', { datatype: 'FP64', shape, data: timesMs }],
    ['channel', bytes(events.map(({ channel }) => channel ?? ''))],
    ['online', { datatype: 'BOOL', shape, data: Uint8Array.from(events, ({ online }) => (online === true ? 1 : 0)) }],
    ['fraud', { datatype: 'BOOL', shape, data: Uint8Array.from(events, ({ fraud }) => (fraud === true ? 1 : 0)) }],
  ])
  return { rowCount, meta, columns }
}

export async function openStore(path = ':memory:', cacheBytes?: number, tileSize?: number): Promise<EmbeddedHistoryStore> {
  const store = new EmbeddedHistoryStore({
    path,
    ...(cacheBytes !== undefined && { cacheBytes }),
    ...(tileSize !== undefined && { tileSize }),
  })
  await store.start(new AbortController().signal)
  return store
}

/** The vector of each row, or the code of its failure. */
export async function vectors(
  engine: FeatureEngine,
  input: string,
  events: readonly Payment[],
  at: { readonly firstOffset: number } | 'request',
): Promise<(readonly number[] | string)[]> {
  const batch = at === 'request' ? batchOf(input, events) : batchOf(input, events, at.firstOffset)
  const result = await engine.compute(batch, input, at === 'request' ? 'request' : 'stream')
  const found: (readonly number[] | string)[] = []
  for (const { row, error } of result.failures) found[row] = error.code
  const tensor = result.batch.columns.get('features')
  if (tensor === undefined) return found
  const width = tensor.shape[1]!
  let next = 0
  for (let row = 0; row < events.length; row++) {
    if (found[row] !== undefined) continue
    found[row] = Array.from((tensor.data as Float32Array).subarray(next * width, (next + 1) * width))
    next++
  }
  return found
}
