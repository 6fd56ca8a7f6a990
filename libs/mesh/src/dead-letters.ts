import { type Bus, recordBytes, type RecordHeaders, type Records, type Slice } from '@spillway/bus'
import { bytesAt, bytesColumn, MeshError, redrivenHeader, textColumn } from '@spillway/core'
import type {
  DeadLetter,
  DeadLetterDesk,
  DeadLetterDetail,
  DeadLetterFilter,
  DeadLetterPage,
  Settled,
  Settlement,
} from './dead-letter-desk.ts'
import { maxSettledAtOnce } from './dead-letter-desk.ts'
import { entryOf, type LetterRecord, passedHeaders } from './dead-letter-entry.ts'
import { letterHeaders, settlementHeaders } from './dead-letter-headers.ts'
import { LetterMarks, maxLettersAtOnce } from './dead-letter-marks.ts'
import { frameRow } from './dead-letter-row.ts'
import type { Graph } from './graph.ts'
import type { Pipeline } from './pipeline.ts'

export interface DeadLettersOptions {
  /** Started, the caller's. */
  readonly bus: Bus
  readonly pipeline: Pipeline
  readonly graph: Graph
}

interface Place {
  readonly partition: number
  readonly offset: bigint
}

/** Of a partition of the dead-letter topic; `end` exclusive. */
interface LetterRange {
  readonly partition: number
  readonly earliest: bigint
  readonly end: bigint
}

interface FoundLetter extends LetterRecord, Place {
  readonly timeMs: number
}

/** Letters less far apart than this are read at one go. */
const joinedGap = 1000n
/** Letters that a page looks at, at most: what it answers comes in bounded time. */
const maxScanned = 20_000

/**
 * A pipeline's dead letters on its bus. The log cannot delete: a record on the redrive topic, on the letter's partition, says what became of a letter, and where it
 * is given back it is the letter itself, for its segment to read. So one write both gives a letter back and marks it.
 */
export class DeadLetters implements DeadLetterDesk {
  private readonly options: DeadLettersOptions
  private readonly marks: LetterMarks
  private settling: Promise<unknown> = Promise.resolve()

  constructor(options: DeadLettersOptions) {
    this.options = options
    this.marks = new LetterMarks(options.bus, options.pipeline.redriveTopic)
  }

  async list(
    filter: DeadLetterFilter,
    page: { readonly after?: string; readonly limit: number },
    signal: AbortSignal,
  ): Promise<DeadLetterPage> {
    const start = page.after === undefined ? { partition: 0, offset: 0n } : placeOf(page.after)
    await this.readMarks(signal)
    const letters: DeadLetter[] = []
    let scanned = 0
    for (const range of await this.ranges()) {
      if (range.partition < start.partition) continue
      const isFirst = range.partition === start.partition && start.offset > range.earliest
      for await (const letter of this.read(isFirst ? { ...range, earliest: start.offset } : range, signal)) {
        if (letters.length === page.limit || scanned++ === maxScanned) return { letters, next: positionOf(letter) }
        const summary = this.summary(letter)
        if (matches(summary, filter)) letters.push(summary)
      }
    }
    return { letters }
  }

  async show(position: string, signal: AbortSignal): Promise<DeadLetterDetail> {
    await this.readMarks(signal)
    const place = placeOf(position)
    const asked = { partition: place.partition, offsets: [place.offset] }
    const letter = (await this.findAll(asked, await this.ranges(), signal)).get(place.offset)
    if (letter === undefined) throw noLetter(place)
    const row = frameRow(letter.headers[letterHeaders.frame])
    return {
      ...this.summary(letter),
      event: Buffer.from(letter.value).toString('utf8'),
      headers: passedHeaders(letter.headers),
      ...(row !== undefined && { row }),
    }
  }

  async settle(positions: readonly string[], settlement: Settlement, signal: AbortSignal): Promise<Settled> {
    if (positions.length > maxSettledAtOnce)
      throw new MeshError('INVALID_ARGUMENT', `${positions.length} letters at once: give at most ${maxSettledAtOnce}`, {
        field: 'positions',
      })
    const places = [...new Set(positions)].map(placeOf)
    // One call after the other: the next sees what this one did.
    const mine = this.settling.then(() => this.settleEach(places, settlement, signal))
    this.settling = mine.catch(() => undefined)
    return mine
  }

  private async settleEach(places: readonly Place[], settlement: Settlement, signal: AbortSignal): Promise<Settled> {
    signal.throwIfAborted()
    await this.readMarks(signal)
    const { bus, pipeline } = this.options
    const left: { position: string; reason: string }[] = []
    let settled = 0
    const ranges = await this.ranges()
    for (const [partition, wanted] of Map.groupBy(places, (place) => place.partition)) {
      const records: Records[] = []
      const offsets = wanted.map(({ offset }) => offset)
      const found = await this.findAll({ partition, offsets }, ranges, signal)
      for (const place of wanted) {
        try {
          const outcome = this.marks.outcome(partition, place.offset)
          if (outcome !== undefined) throw new MeshError('FAILED_PRECONDITION', `the letter is ${outcome} already`)
          const letter = found.get(place.offset)
          if (letter === undefined) throw noLetter(place)
          records.push(this.settlementOf(letter, settlement))
        } catch (thrown) {
          const error = MeshError.from(thrown)
          if (error.code !== 'FAILED_PRECONDITION' && error.code !== 'NOT_FOUND') throw error
          left.push({ position: positionOf(place), reason: error.message })
        }
      }
      if (records.length > 0 && settlement.dryRun !== true) await bus.publish(pipeline.redriveTopic, joined(records), partition)
      settled += records.length
    }
    return { settled, left }
  }

  /** The record that settles a letter. @throws MeshError FAILED_PRECONDITION where it cannot be */
  private settlementOf(letter: FoundLetter, { outcome, at = 'segment' }: Settlement): Records {
    const own = { [settlementHeaders.letter]: String(letter.offset), [settlementHeaders.outcome]: outcome }
    if (outcome === 'dropped') return { count: 1, values: bytesColumn([new Uint8Array(0)]), headers: [own] }
    const { bus, pipeline, graph } = this.options
    const cut = (letter.headers[letterHeaders.incomplete] ?? '').split(', ')
    if (cut.includes('event') || cut.includes('key'))
      throw new MeshError(
        'FAILED_PRECONDITION',
        `the letter is incomplete (${cut.join(', ')}): its event lies whole at ${sourceOf(letter)}`,
      )
    const { [letterHeaders.code]: _code, [letterHeaders.message]: _message, [letterHeaders.field]: _field, ...kept } = letter.headers
    const attempt = { [redrivenHeader]: String(redrivenOf(letter.headers) + 1) }
    const headers: RecordHeaders = { ...(at === 'input' ? this.toInput(letter, kept) : kept), ...attempt, ...own }
    const plan = graph.segments.find(({ name }) => name === headers[letterHeaders.segment])
    if (plan === undefined)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `there is no segment "${headers[letterHeaders.segment] ?? ''}" any more: give the letter's event to the pipeline's input instead`,
      )
    entryOf({ ...letter, headers }, plan, this.options)
    const record: Records = { count: 1, keys: textColumn([letter.key]), values: bytesColumn([letter.value]), headers: [headers] }
    const bytes = recordBytes(record, 0)
    if (bytes > bus.maxRecordBytes)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `given back it would be a record of ${bytes} bytes, and ${pipeline.redriveTopic} takes ${bus.maxRecordBytes}`,
      )
    return record
  }

  private toInput(letter: FoundLetter, headers: RecordHeaders): RecordHeaders {
    const topic = headers[letterHeaders.sourceTopic]
    const plan = this.options.graph.segments.find(({ sources }) =>
      sources.some((source) => source.topic === topic && source.input !== undefined),
    )
    if (plan === undefined) throw new MeshError('FAILED_PRECONDITION', `${sourceOf(letter)} is no event of an input`)
    const { [letterHeaders.frame]: _frame, ...kept } = headers
    return { ...kept, [letterHeaders.segment]: plan.name }
  }

  private summary(letter: FoundLetter): DeadLetter {
    const { headers, partition, offset } = letter
    const text = (name: string): string => headers[name] ?? ''
    const field = headers[letterHeaders.field]
    const incomplete = headers[letterHeaders.incomplete]
    return {
      position: positionOf(letter),
      outcome: this.marks.outcome(partition, offset) ?? 'open',
      timeMs: letter.timeMs,
      segment: text(letterHeaders.segment),
      stage: text(letterHeaders.stage),
      code: text(letterHeaders.code),
      message: text(letterHeaders.message),
      ...(field !== undefined && { field }),
      id: text(letterHeaders.eventId),
      key: letter.key,
      source: sourceOf(letter),
      redriven: redrivenOf(headers),
      ...(incomplete !== undefined && { incomplete }),
    }
  }

  /** What became of letters, up to now. */
  private async readMarks(signal: AbortSignal): Promise<void> {
    const { bus, pipeline } = this.options
    await bus.topics.ensure([{ name: pipeline.redriveTopic, partitions: pipeline.partitions }])
    for (const { partition, end } of await bus.topics.offsets(pipeline.redriveTopic)) await this.marks.readOn(partition, end, signal)
  }

  /** None where the pipeline has never run. */
  private async ranges(): Promise<readonly LetterRange[]> {
    const { bus, pipeline } = this.options
    const topic = pipeline.deadLetterTopic
    return (await bus.topics.describe(topic)) === undefined ? [] : bus.topics.offsets(topic)
  }

  /** Those of a partition's letters that there are, by offset. Letters that lie together are read together. */
  private async findAll(
    { partition, offsets }: { readonly partition: number; readonly offsets: readonly bigint[] },
    ranges: readonly LetterRange[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<bigint, FoundLetter>> {
    const found = new Map<bigint, FoundLetter>()
    const range = ranges.find((each) => each.partition === partition)
    if (range === undefined) return found
    const wanted = new Set(offsets.filter((offset) => offset >= range.earliest && offset < range.end))
    const sorted = [...wanted].sort((a, b) => Number(a - b))
    for (let first = 0, last = 0; first < sorted.length; first = ++last) {
      while (last + 1 < sorted.length && sorted[last + 1]! - sorted[last]! < joinedGap) last++
      for await (const letter of this.read({ ...range, earliest: sorted[first]!, end: sorted[last]! + 1n }, signal))
        if (wanted.has(letter.offset)) found.set(letter.offset, letter)
    }
    return found
  }

  private async *read({ partition, earliest, end }: LetterRange, signal: AbortSignal): AsyncGenerator<FoundLetter> {
    if (earliest >= end) return
    const { bus, pipeline } = this.options
    const asked = { topic: pipeline.deadLetterTopic, from: new Map([[partition, earliest]]), until: new Map([[partition, end]]) }
    for await (const slice of bus.subscribe({ ...asked, maxSliceRecords: maxLettersAtOnce, signal })) yield* lettersOf(slice)
    signal.throwIfAborted()
  }
}

function* lettersOf({ partition, offsets, records }: Slice): Generator<FoundLetter> {
  for (let row = 0; row < records.count; row++)
    yield {
      partition,
      offset: offsets[row]!,
      timeMs: records.timestampsMs[row]!,
      key: records.keys === undefined ? '' : Buffer.from(bytesAt(records.keys, row)).toString('utf8'),
      value: bytesAt(records.values, row),
      headers: records.headers?.[row] ?? {},
    }
}

function noLetter(place: Place): MeshError {
  return new MeshError('NOT_FOUND', `there is no letter ${positionOf(place)}: it was never there, or retention has dropped it`)
}

function joined(records: readonly Records[]): Records {
  const noKey = new Uint8Array(0)
  return {
    count: records.length,
    keys: bytesColumn(records.map(({ keys }) => (keys === undefined ? noKey : bytesAt(keys, 0)))),
    values: bytesColumn(records.map(({ values }) => bytesAt(values, 0))),
    headers: records.map(({ headers }) => headers![0]),
  }
}

function matches(letter: DeadLetter, filter: DeadLetterFilter): boolean {
  const { fromMs = -Infinity, toMs = Infinity, outcome = 'open' } = filter
  if (letter.timeMs < fromMs || letter.timeMs >= toMs) return false
  if (outcome !== 'any' && letter.outcome !== outcome) return false
  return (['segment', 'stage', 'code', 'key', 'id'] as const).every((name) => filter[name] === undefined || filter[name] === letter[name])
}

function redrivenOf(headers: RecordHeaders): number {
  const times = Number(headers[redrivenHeader] ?? 0)
  return Number.isSafeInteger(times) && times > 0 ? times : 0
}

function sourceOf({ headers }: LetterRecord): string {
  return [letterHeaders.sourceTopic, letterHeaders.sourcePartition, letterHeaders.sourceOffset]
    .map((name) => headers[name] ?? '?')
    .join('/')
}

function positionOf({ partition, offset }: Place): string {
  return `${partition}-${offset}`
}

/** @throws MeshError INVALID_ARGUMENT */
function placeOf(position: string): Place {
  const [, partition, offset] = /^(\d{1,6})-(\d{1,18})$/.exec(position) ?? []
  if (partition === undefined || offset === undefined)
    throw new MeshError('INVALID_ARGUMENT', `"${position.slice(0, 40)}" is no letter: give <partition>-<offset>, as a list shows it`, {
      field: 'position',
    })
  return { partition: Number(partition), offset: BigInt(offset) }
}
