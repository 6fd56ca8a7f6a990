import { type Batch, rowMeta, type Tensor } from '@spillway/core'
import { buildWorld, fullSize, type PlayEvent, playEvents } from '@spillway/example-fraud'
import { partitions, sliceRecords } from './fraud.ts'

/** Consecutive events of one partition of an input, as the feature engine takes them. */
export interface FeatureSlice {
  readonly input: 'transactions' | 'labels'
  readonly batch: Batch
}

/** The full-size simulation's slices of 1,000 events, without end, in about the order in which the mesh would read them: a partition's slice is given out when it is full. */
export function* featureSlices(): Generator<FeatureSlice> {
  const open = new Map<string, PlayEvent[]>()
  const offsets = new Map<string, number>()
  for (const event of playEvents(buildWorld(fullSize))) {
    const key = event.topic === 'transactions' ? event.transaction.customerId : event.transaction.terminalId
    const partition = key % partitions
    const lane = `${event.topic}/${partition}`
    const events = open.get(lane) ?? []
    if (events.length === 0) open.set(lane, events)
    events.push(event)
    if (events.length < sliceRecords) continue
    open.delete(lane)
    const first = offsets.get(lane) ?? 0
    offsets.set(lane, first + events.length)
    yield { input: event.topic, batch: batchOf(event.topic, partition, first, events) }
  }
}

function batchOf(topic: 'transactions' | 'labels', partition: number, firstOffset: number, events: readonly PlayEvent[]): Batch {
  const rowCount = events.length
  const shape = [rowCount]
  const integers = (of: (event: PlayEvent) => number): Tensor => ({
    datatype: 'INT64',
    shape,
    data: BigInt64Array.from(events, (event) => BigInt(of(event))),
  })
  const numbers = (of: (event: PlayEvent) => number): Tensor => ({ datatype: 'FP64', shape, data: Float64Array.from(events, of) })
  const columns = new Map<string, Tensor>([
    ['transaction_id', integers(({ transaction }) => transaction.transactionId)],
    ['terminal_id', integers(({ transaction }) => transaction.terminalId)],
    ['tx_datetime', numbers(({ transaction }) => transaction.timeMs)],
  ])
  if (topic === 'transactions') {
    columns.set(
      'customer_id',
      integers(({ transaction }) => transaction.customerId),
    )
    columns.set(
      'amount',
      numbers(({ transaction }) => transaction.amount),
    )
  } else columns.set('fraud', { datatype: 'BOOL', shape, data: Uint8Array.from(events, ({ transaction }) => (transaction.fraud ? 1 : 0)) })
  const meta = rowMeta(rowCount, {
    ids: events.map(({ transaction }) => String(transaction.transactionId)),
    eventTimesMs: Float64Array.from(events, ({ transaction }) => transaction.timeMs),
    topics: new Array<string>(rowCount).fill(topic),
    partitions: new Int32Array(rowCount).fill(partition),
    offsets: BigInt64Array.from(events, (_, row) => BigInt(firstOffset + row)),
  })
  return { rowCount, meta, columns }
}

/** Slices up to the simulation's day; the first one behind it is left to the next call. */
export class SliceFeed {
  private readonly slices: Generator<FeatureSlice> = featureSlices()
  private pending: FeatureSlice | undefined
  private readonly startMs = Date.parse(`${fullSize.startDate}T00:00:00Z`)

  untilDay(day: number): FeatureSlice[] {
    const untilMs = this.startMs + day * 86_400_000
    const taken: FeatureSlice[] = []
    for (;;) {
      const slice = this.pending ?? (this.slices.next().value as FeatureSlice)
      this.pending = slice
      if (slice.batch.meta.eventTimesMs.at(-1)! > untilMs) return taken
      taken.push(slice)
      this.pending = undefined
    }
  }
}
