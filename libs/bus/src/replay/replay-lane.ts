import { MeshError } from '@spillway/core'
import { pause, backoffMs } from '../backoff.ts'
import { consumedRecords } from '../consumed.ts'
import type { Attempt, Handler, Lag, ProcessOptions, ProcessorEvent, Slice } from '../port.ts'
import { recordBytes, sliceRecords } from '../records.ts'
import type { Slots } from '../slots.ts'
import type { CheckpointPartition } from './checkpoint.ts'
import type { CommitGate } from './commit-gate.ts'
import type { ReplaySink } from './replay-sink.ts'
import type { ReplayPartition, ReplaySource } from './replay-source.ts'

const maxBackoffMs = 5000

/** Whoever started a run sees it end: nobody takes over. */
const unattended: Attempt = { takenOver: false, note: undefined, keepNote: async () => {}, maxRecordBytes: () => Infinity }

/** What a lane is run with: what handles its slices, and where their outputs go. */
export interface LaneWork {
  readonly options: ProcessOptions
  readonly handle: Handler
  readonly sink: ReplaySink
  readonly gate: CommitGate
  /** Places for handlers. */
  readonly slots: Slots
  /** No new slice is begun. */
  readonly stopping: AbortSignal
  /** What is in flight is given up. */
  readonly abandoned: AbortSignal
  emit(event: ProcessorEvent): void
}

/** One partition of the input: read in order, a slice at a time, to its end. */
export class ReplayLane {
  readonly topic: string
  readonly partition: number
  private readonly source: ReplaySource
  private readonly range: ReplayPartition
  /** First offset that is not answered yet. */
  private position: bigint
  /** Records answered, in all runs. */
  private answered: number
  private over: boolean

  constructor(source: ReplaySource, range: ReplayPartition, resumed: CheckpointPartition | undefined) {
    this.source = source
    this.topic = source.topic
    this.partition = range.partition
    this.range = range
    this.position = resumed === undefined ? range.from : BigInt(resumed.position)
    this.answered = resumed?.records ?? 0
    this.over = resumed?.finished === true || (range.end !== undefined && this.position >= range.end)
  }

  /** Whether all of it has been answered. */
  get finished(): boolean {
    return this.over
  }

  /** First offset of the input. */
  get from(): bigint {
    return this.range.from
  }

  get records(): number {
    return this.answered
  }

  /** 0 to 1. */
  get share(): number {
    if (this.over) return 1
    const { from, end, partition } = this.range
    if (end === undefined) return this.source.readShare?.(partition) ?? 0
    return Number(this.position - from) / Number(end - from)
  }

  /** An end that is not known lies behind the position until it is reached: nobody may take the partition for an idle one. */
  get lag(): Lag {
    const { topic, partition, position } = this
    const endOffset = this.over ? position : (this.range.end ?? position + 1n)
    return { topic, partition, committedOffset: position, endOffset }
  }

  get checkpoint(): CheckpointPartition {
    const { partition, from, end } = this.range
    return {
      partition,
      from: String(from),
      end: end === undefined ? null : String(end),
      position: String(this.position),
      finished: this.over,
      records: this.answered,
    }
  }

  /** Resolves at its end, or when it is stopped. @throws what the source or the sink throw */
  async run(work: LaneWork): Promise<void> {
    if (this.over) return
    const { maxSliceRecords, maxSliceBytes } = work.options
    for await (const read of this.source.read(this.partition, this.position, maxSliceRecords, work.stopping)) {
      for (let start = 0; start < read.records.count;) {
        const slice = cutSlice(read, start, maxSliceRecords, maxSliceBytes)
        const consumed = await this.answer(slice, work)
        if (consumed === undefined) return
        start += consumed
      }
      if (work.stopping.aborted) return
    }
    if (work.stopping.aborted) return
    // Behind the last record may lie offsets that hold none.
    this.position = this.range.end ?? this.position
    this.over = true
  }

  /** How many of the slice's records were answered; undefined where it was stopped before any was. */
  private async answer(slice: Slice, work: LaneWork): Promise<number | undefined> {
    const { slots, stopping, abandoned } = work
    for (let attempt = 1; !stopping.aborted; attempt++) {
      if (!(await slots.take(stopping))) return undefined
      let failure: MeshError
      try {
        const outputs = await work.handle(slice, abandoned, unattended)
        const consumed = consumedRecords(outputs, slice)
        return await work.gate.write(async () => {
          if (abandoned.aborted) return undefined
          const nextOffset = slice.offsets[consumed - 1]! + 1n
          const { topic, partition } = this
          await work.sink.write({ topic, partition, nextOffset }, outputs.writes).catch((thrown: unknown) => {
            throw new SinkFailure(thrown)
          })
          this.position = nextOffset
          this.answered += consumed
          return consumed
        })
      } catch (thrown) {
        if (thrown instanceof SinkFailure) throw MeshError.from(thrown.reason)
        failure = MeshError.from(thrown)
      } finally {
        slots.release()
      }
      if (abandoned.aborted) return undefined
      const delayMs = backoffMs(attempt, maxBackoffMs)
      work.emit({ kind: 'retrying', topic: this.topic, partition: this.partition, attempt, delayMs, error: failure })
      await pause(delayMs, stopping)
    }
    return undefined
  }
}

/** A sink may have taken a part of what it was given: the slice must not be handled again in this run. */
class SinkFailure extends Error {
  readonly reason: unknown

  constructor(reason: unknown) {
    super('the sink failed')
    this.reason = reason
  }
}

/** Records of a slice from `start` on, within the limits, one at least. */
function cutSlice(slice: Slice, start: number, maxRecords: number, maxBytes: number): Slice {
  const { topic, partition, records, offsets } = slice
  const limit = Math.min(records.count, start + maxRecords)
  let end = start + 1
  for (let bytes = recordBytes(records, start); end < limit; end++) {
    bytes += recordBytes(records, end)
    if (bytes > maxBytes) break
  }
  if (start === 0 && end === records.count) return slice
  return { topic, partition, records: sliceRecords(records, start, end), offsets: offsets.subarray(start, end) }
}
