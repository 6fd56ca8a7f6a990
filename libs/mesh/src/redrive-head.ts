import type { Bus, RecordHeaders, Slice } from '@spillway/bus'
import {
  type Batch,
  bytesAt,
  bytesColumn,
  concatBatches,
  type FailedRows,
  MeshError,
  redrivenHeader,
  type Runner,
  textColumn,
} from '@spillway/core'
import { entryOf, eventHeaders, letterRow, type LetterRecord } from './dead-letter-entry.ts'
import { letterHeaders, settlementOf } from './dead-letter-headers.ts'
import { LetterMarks } from './dead-letter-marks.ts'
import { type Graph, preprocessingStage, type SegmentPlan, type StageId } from './graph.ts'
import type { Pipeline, PipelineInput } from './pipeline.ts'
import { InputReader, sameColumns, type Source } from './sources.ts'

/** Rows of letters that were given back, which go on together. */
export interface RedrivenRows {
  /** The partition that their events came from: no slice of it is in work meanwhile. */
  readonly lane: string
  readonly batch: Batch
  readonly failures: readonly FailedRows[]
  /** Absent where there are only failures. */
  readonly runner?: Runner
  /** Where rows enter within the segment; absent where they enter at its head. */
  readonly stage?: StageId
  /** Whether each row is answered; those of an input that only feeds histories are not. */
  readonly answers: boolean
}

export interface RedriveHeadOptions {
  readonly plan: SegmentPlan
  readonly pipeline: Pipeline
  readonly graph: Graph
  readonly bus: Bus
  readonly entries: ReadonlyMap<string, { readonly source: Source; readonly runner: Runner }>
  readonly runnerOf: (stage: StageId) => Runner
}

/** A record of the redrive topic that is for this segment. */
interface Redriven extends LetterRecord {
  readonly timestampMs: number
}

/**
 * The letters among a segment's inputs: reads the pipeline's redrive topic, takes what is for its segment, once each, and says where it goes on. An event keeps
 * its position and so its identity: to histories, adding it again is adding it once. Its deadline is over long since, so it has none.
 */
export class RedriveHead {
  readonly topic: string
  private readonly options: RedriveHeadOptions
  private readonly marks: LetterMarks
  private readonly readers = new Map<string, InputReader>()
  private readonly readsInputs: boolean

  constructor(options: RedriveHeadOptions) {
    const { plan, pipeline, bus } = options
    this.options = options
    this.topic = pipeline.redriveTopic
    this.marks = new LetterMarks(bus, this.topic)
    this.readsInputs = plan.sources.some(({ input }) => input !== undefined)
  }

  /** @throws MeshError where the topic cannot be read: the slice is given again */
  async read(slice: Slice, nowMs: number, signal: AbortSignal): Promise<readonly RedrivenRows[]> {
    const letters = await this.lettersOf(slice, signal)
    const parts = letters.map((letter) => this.rowsOf(letter, slice.partition, nowMs))
    return joined(parts)
  }

  private async lettersOf(slice: Slice, signal: AbortSignal): Promise<readonly Redriven[]> {
    const { records, offsets, partition } = slice
    const rows: { readonly row: number; readonly letter: bigint }[] = []
    const inSlice = new Set<bigint>()
    for (let row = 0; row < records.count; row++) {
      const headers = records.headers?.[row]
      const settlement = settlementOf(headers)
      if (settlement === undefined || inSlice.has(settlement.letter)) continue
      inSlice.add(settlement.letter)
      if (settlement.outcome === 'redriven' && this.isFor(headers!)) rows.push({ row, letter: settlement.letter })
    }
    if (rows.length === 0) return []
    // The first record for a letter settles it: two operators at once, or one who tried again, give it once.
    await this.marks.readTo(partition, offsets[0]!, signal)
    return rows
      .filter(({ letter }) => this.marks.outcome(partition, letter) === undefined)
      .map(({ row }) => ({
        key: records.keys === undefined ? '' : Buffer.from(bytesAt(records.keys, row)).toString('utf8'),
        value: bytesAt(records.values, row),
        headers: records.headers![row]!,
        timestampMs: records.timestampsMs[row]!,
      }))
  }

  /** Letters of a segment that there is no more are the first segment's, which makes them letters again: nothing is lost by a change of placement. */
  private isFor(headers: RecordHeaders): boolean {
    const { plan, graph } = this.options
    const segment = headers[letterHeaders.segment]
    if (segment === plan.name) return true
    return this.readsInputs && !graph.segments.some(({ name }) => name === segment)
  }

  private rowsOf(letter: Redriven, partition: number, nowMs: number): RedrivenRows {
    const { headers } = letter
    const { pipeline, plan, runnerOf } = this.options
    const topic = headers[letterHeaders.sourceTopic] ?? ''
    const lane = `${topic}/${partition}`
    const answers = [...pipeline.inputs.values()].find((input) => input.topic === topic)?.predict ?? true
    try {
      if (headers[letterHeaders.segment] !== plan.name)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `there is no segment "${headers[letterHeaders.segment] ?? ''}": give the letter's event to the pipeline's input instead`,
        )
      const entry = entryOf(letter, plan, this.options)
      if (entry.kind === 'row')
        return { lane, batch: again(entry.batch, headers), failures: [], runner: runnerOf(entry.stage), stage: entry.stage, answers }
      if (entry.kind === 'event') return { lane, answers, ...this.event(letter, entry.input, partition, nowMs) }
      return { lane, answers, ...this.frame(letter, entry.topic, partition, nowMs) }
    } catch (thrown) {
      const error = MeshError.from(thrown)
      const failure = { stage: headers[letterHeaders.stage] ?? plan.name, batch: letterRow(letter), errors: [error] }
      return { lane, batch: noRows, failures: [failure], answers }
    }
  }

  private event(
    letter: Redriven,
    input: PipelineInput,
    partition: number,
    nowMs: number,
  ): Pick<RedrivenRows, 'batch' | 'failures' | 'runner'> {
    const { headers } = letter
    let reader = this.readers.get(input.name)
    if (reader === undefined)
      this.readers.set(input.name, (reader = new InputReader(this.options.pipeline, input, preprocessingStage(input.name))))
    const ingestMs = Number(headers[letterHeaders.ingestTimeMs] ?? NaN)
    const records = {
      count: 1,
      keys: textColumn([letter.key]),
      values: bytesColumn([letter.value]),
      timestampsMs: Float64Array.of(Number.isFinite(ingestMs) ? ingestMs : letter.timestampMs),
      headers: [eventHeaders(letter, input)],
    }
    const source = { topic: input.topic, partition, offsets: BigInt64Array.of(sourceOffset(headers)) }
    const { batch, failures } = reader.read(records, source, nowMs)
    return { batch, failures, runner: this.options.entries.get(input.topic)!.runner }
  }

  /** A frame that could not be read, from its bytes: as many rows as it has. */
  private frame(letter: Redriven, topic: string, partition: number, nowMs: number): Pick<RedrivenRows, 'batch' | 'failures' | 'runner'> {
    const { source, runner } = this.options.entries.get(topic)!
    const slice: Slice = {
      topic,
      partition,
      records: { count: 1, values: bytesColumn([letter.value]), timestampsMs: Float64Array.of(letter.timestampMs) },
      offsets: BigInt64Array.of(sourceOffset(letter.headers)),
    }
    const { batch, failures } = source.decode(slice, nowMs)
    return {
      batch: again(batch, letter.headers),
      failures: failures.map((failed) => ({ ...failed, batch: again(failed.batch, letter.headers) })),
      runner,
    }
  }
}

const noRows: Batch = letterless()

function letterless(): Batch {
  const { meta } = letterRow({ key: '', value: new Uint8Array(0), headers: {} })
  return { rowCount: 0, meta, columns: new Map() }
}

function sourceOffset(headers: RecordHeaders): bigint {
  const text = headers[letterHeaders.sourceOffset] ?? ''
  if (!/^\d{1,18}$/.test(text))
    throw new MeshError('INVALID_ARGUMENT', `${letterHeaders.sourceOffset} is "${text}": the letter does not say where its event came from`)
  return BigInt(text)
}

/** Rows that say how often their letter was given back. */
function again(batch: Batch, headers: RecordHeaders): Batch {
  const times = headers[redrivenHeader] ?? '1'
  return {
    ...batch,
    meta: {
      ...batch.meta,
      deadlinesMs: new Float64Array(batch.rowCount).fill(Infinity),
      headers: batch.meta.headers.map((passed) => ({ ...passed, [redrivenHeader]: times })),
    },
  }
}

/** Consecutive letters that go the same way, as one batch. */
function joined(parts: readonly RedrivenRows[]): readonly RedrivenRows[] {
  const groups: RedrivenRows[][] = []
  for (const part of parts) {
    const group = groups.at(-1)
    const last = group?.findLast(({ batch }) => batch.rowCount > 0)
    const fits =
      group !== undefined &&
      group[0]!.lane === part.lane &&
      (part.batch.rowCount === 0 || last === undefined || (last.runner === part.runner && sameColumns(last.batch, part.batch)))
    if (fits) group.push(part)
    else groups.push([part])
  }
  return groups.map((group) => {
    const filled = group.filter(({ batch }) => batch.rowCount > 0)
    const failures = group.flatMap((part) => part.failures)
    if (filled.length === 0) return { ...group[0]!, failures }
    return { ...filled[0]!, batch: concatBatches(filled.map(({ batch }) => batch)), failures }
  })
}
