import { type Batch, type BytesColumn, MeshError, type PassThroughHeaders, type RowMeta, rowMeta, takeBytes } from '@spillway/core'
import { isUtf8 } from 'node:buffer'
import { type EventContext, noContext, readEnvelope, readHeaders, type RecordHeaders } from './cloudevents.ts'
import { type FieldColumn, FloatColumn } from './field-column.ts'
import type { InputDefinition } from './input-schema.ts'
import { JsonCursor } from './json-cursor.ts'
import { ObjectReader } from './object-reader.ts'

/** Records in columns; a bus's records are that. */
export interface EventRecords {
  readonly count: number
  readonly keys?: BytesColumn
  readonly values: BytesColumn
  /** ms since the epoch. */
  readonly timestampsMs?: Float64Array
  readonly headers?: readonly (RecordHeaders | undefined)[]
}

/** Where records were read: a bus's slice is that. */
export interface EventSource {
  readonly topic: string
  readonly partition: number
  readonly offsets: BigInt64Array
}

export interface EventFailure {
  /** Index in the records. */
  readonly row: number
  /** INVALID_ARGUMENT, naming the field where one is to blame. */
  readonly error: MeshError
}

export interface ReadEvents {
  /** The good events, in order, with the columns of `inputSignature`. */
  readonly batch: Batch
  /** Ascending. */
  readonly failures: readonly EventFailure[]
  /** A row a failure, in their order: no columns, but the original bytes, all headers, and the id, key and time as far as they could be read. */
  readonly rejected: Batch
}

export interface EventReader {
  /** `source` is undefined for a synchronous call. */
  read(records: EventRecords, source: EventSource | undefined, nowMs: number): ReadEvents
}

export interface EventReaderOptions {
  /** A larger value is refused; Infinity where absent. */
  readonly maxEventBytes?: number
}

/**
 * Compiles an input's definition. Ids, keys and event times come from the fields that it names. Where it names none: the id is `ce_id`, else
 * `<topic>/<partition>/<offset>` ('' without a source); the key is the record's, else `partitionkey`; the time is `ce_time`, else the record's
 * timestamp, else now. A reader keeps scratch space: it is for one caller at a time.
 */
export function compileEventReader(input: InputDefinition, options: EventReaderOptions = {}): EventReader {
  return new JsonEventReader(input, options)
}

/** Metadata as it grows: rows of one outcome. */
class MetaRows {
  readonly records: number[] = []
  readonly ids: string[] = []
  readonly keys: string[] = []
  readonly eventTimesMs: number[] = []
  readonly deadlinesMs: number[] = []
  readonly traceParents: string[] = []
  readonly headers: PassThroughHeaders[] = []

  meta(records: EventRecords, source: EventSource | undefined, nowMs: number): RowMeta {
    const rowCount = this.records.length
    const all = rowCount === records.count
    const pick = (_: unknown, row: number): number => this.records[row]!
    const rows = all ? undefined : Uint32Array.from({ length: rowCount }, pick)
    const timestampsMs = records.timestampsMs
    const ingestTimesMs = new Float64Array(rowCount)
    for (let row = 0; row < rowCount; row++) ingestTimesMs[row] = timestampsMs === undefined ? nowMs : timestampsMs[rows?.[row] ?? row]!
    const known: Partial<RowMeta> = {
      ids: this.ids,
      keys: this.keys,
      eventTimesMs: Float64Array.from(this.eventTimesMs),
      ingestTimesMs,
      deadlinesMs: Float64Array.from(this.deadlinesMs),
      traceParents: this.traceParents,
      headers: this.headers,
      events: rows === undefined ? records.values : takeBytes(records.values, rows),
    }
    if (source === undefined) return rowMeta(rowCount, known)
    const offsets = rows === undefined ? source.offsets : BigInt64Array.from(rows, (record) => source.offsets[record]!)
    return rowMeta(rowCount, {
      ...known,
      topics: new Array<string>(rowCount).fill(source.topic),
      partitions: new Int32Array(rowCount).fill(source.partition),
      offsets,
    })
  }
}

class JsonEventReader implements EventReader {
  private readonly cursor = new JsonCursor()
  private readonly objects: ObjectReader
  private readonly idColumn: FieldColumn | undefined
  private readonly keyColumn: FieldColumn | undefined
  private readonly timeColumn: FloatColumn | undefined
  private readonly maxEventBytes: number

  constructor(input: InputDefinition, options: EventReaderOptions) {
    this.objects = new ObjectReader(input)
    const named = (name: string | undefined): FieldColumn | undefined => this.objects.columns.find((column) => column.name === name)
    this.idColumn = named(input.id)
    this.keyColumn = named(input.key)
    const time = named(input.time)
    this.timeColumn = time instanceof FloatColumn ? time : undefined
    this.maxEventBytes = options.maxEventBytes ?? Infinity
  }

  read(records: EventRecords, source: EventSource | undefined, nowMs: number): ReadEvents {
    const { count, values, headers } = records
    const good = new MetaRows()
    const bad = new MetaRows()
    const failures: EventFailure[] = []
    const text = isUtf8(values.bytes.subarray(values.offsets[0], values.offsets[count]))
    const keys = new RecordKeys(records.keys)
    this.objects.allocate(count)
    for (let record = 0; record < count; record++) {
      const row = good.records.length
      const recordHeaders = headers?.[record]
      let context: Readonly<EventContext> = noContext
      let error: MeshError | undefined
      this.objects.forget()
      try {
        if (recordHeaders !== undefined) context = readHeaders(recordHeaders)
        error = this.readValue(values, record, row, text, context)
      } catch (thrown) {
        error = MeshError.from(thrown)
      }
      const rows = error === undefined ? good : bad
      rows.records.push(record)
      rows.ids.push(this.id(row, context, source, record))
      rows.keys.push(
        this.keyColumn === undefined
          ? keys.at(record) || context.partitionKey
          : this.objects.has(this.keyColumn)
            ? this.keyColumn.text(row)
            : keys.at(record),
      )
      rows.eventTimesMs.push(this.timeMs(row, context, records.timestampsMs?.[record] ?? nowMs))
      rows.deadlinesMs.push(context.deadlineMs)
      rows.traceParents.push(context.traceParent)
      rows.headers.push(error === undefined ? context.headers : (recordHeaders ?? context.headers))
      if (error !== undefined) failures.push({ row: record, error })
    }
    const rowCount = good.records.length
    return {
      batch: { rowCount, meta: good.meta(records, source, nowMs), columns: this.objects.tensors(rowCount) },
      failures,
      rejected: { rowCount: failures.length, meta: bad.meta(records, source, nowMs), columns: new Map() },
    }
  }

  private readValue(values: BytesColumn, record: number, row: number, text: boolean, context: EventContext): MeshError | undefined {
    const start = values.offsets[record]!
    const end = values.offsets[record + 1]!
    if (end - start > this.maxEventBytes)
      return new MeshError('INVALID_ARGUMENT', `the event has ${end - start} bytes, more than the ${this.maxEventBytes} allowed`)
    if (!text && !isUtf8(values.bytes.subarray(start, end))) return new MeshError('INVALID_ARGUMENT', 'the event is no valid UTF-8')
    this.cursor.open(values.bytes, start, end)
    if (context.structured) {
      const data = readEnvelope(this.cursor, context)
      if (data.bytes !== values.bytes && !isUtf8(data.bytes))
        return new MeshError('INVALID_ARGUMENT', '"data_base64" holds no valid UTF-8', { field: 'data_base64' })
      this.cursor.open(data.bytes, data.start, data.end)
    }
    return this.objects.read(this.cursor, row)
  }

  private id(row: number, context: EventContext, source: EventSource | undefined, record: number): string {
    if (this.idColumn !== undefined && this.objects.has(this.idColumn)) return this.idColumn.text(row)
    if (this.idColumn === undefined && context.id !== '') return context.id
    return source === undefined ? '' : `${source.topic}/${source.partition}/${source.offsets[record]}`
  }

  private timeMs(row: number, context: EventContext, recordTimeMs: number): number {
    if (this.timeColumn !== undefined && this.objects.has(this.timeColumn)) return this.timeColumn.value(row)
    return Number.isNaN(context.timeMs) ? recordTimeMs : context.timeMs
  }
}

/** Records' keys as text, read only where a row needs its own. */
class RecordKeys {
  private readonly column: BytesColumn | undefined
  private readonly buffer: Buffer

  constructor(column: BytesColumn | undefined) {
    this.column = column
    this.buffer =
      column === undefined ? Buffer.alloc(0) : Buffer.from(column.bytes.buffer, column.bytes.byteOffset, column.bytes.byteLength)
  }

  at(record: number): string {
    return this.column === undefined ? '' : this.buffer.toString('utf8', this.column.offsets[record], this.column.offsets[record + 1])
  }
}
