import type { ReplayInput, ReplaySource } from '@spillway/bus'
import { type Batch, type BytesColumn, column, MeshError, textAt } from '@spillway/core'
import type { Pipeline, PipelineInput } from '@spillway/mesh'
import { compileEventReader, type FieldType } from '@spillway/wire'
import { TextIndex } from './text-index.ts'

const sliceRecords = 4096

/** Which event's field labels which row: `--label labels.fraud --on transaction_id`. */
export interface LabelDefinition {
  readonly input: PipelineInput
  readonly field: string
  readonly type: FieldType
  /** Of labels and events alike: equal values belong together. The events' ids where undefined. */
  readonly on: string | undefined
  /** A timestamp of the label that says when it arrived; the record's own time where undefined, or for files the event time. */
  readonly arrival: string | undefined
  /** A label that arrived later is not known, ms since the epoch. */
  readonly knownByMs: number
}

/** `input.field`. @throws MeshError INVALID_ARGUMENT */
export function labelDefinition(
  pipeline: Pipeline,
  flags: { readonly label: string; readonly on?: string; readonly labelArrival?: string; readonly knownByMs: number },
): LabelDefinition {
  const at = flags.label.indexOf('.')
  const input = pipeline.inputs.get(flags.label.slice(0, Math.max(0, at)))
  if (input === undefined)
    throw wrong(
      '--label',
      `--label ${flags.label}: expected input.field with an input of the pipeline: ${[...pipeline.inputs.keys()].join(', ')}`,
    )
  const field = flags.label.slice(at + 1)
  const type = fieldType(input, field, '--label')
  if (flags.on !== undefined) {
    fieldType(input, flags.on, '--on')
    for (const other of pipeline.inputs.values()) if (other.predict) fieldType(other, flags.on, '--on')
  }
  if (flags.labelArrival !== undefined && fieldType(input, flags.labelArrival, '--label-arrival') !== 'timestamp')
    throw wrong('--label-arrival', `--label-arrival ${flags.labelArrival}: expected a field of type timestamp`)
  return { input, field, type, on: flags.on, arrival: flags.labelArrival, knownByMs: flags.knownByMs }
}

function fieldType({ name, definition }: PipelineInput, field: string, flag: string): FieldType {
  const found = Object.hasOwn(definition.fields, field) ? definition.fields[field] : undefined
  if (found === undefined)
    throw wrong(flag, `${flag}: input "${name}" has no field "${field}": choose among ${Object.keys(definition.fields).join(', ')}`)
  return found.type
}

function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}

export type LabelValue = string | number | bigint | boolean

/** The labels that were known, by what they belong to; of several for one event the one that arrived last. */
export class LabelIndex {
  private readonly keys = new TextIndex()
  private readonly values: (LabelValue | null)[] = []
  private readonly arrivalsMs: number[] = []

  /** Undefined where no label was known. */
  get(key: string): LabelValue | undefined {
    const at = this.keys.find(key)
    return at < 0 ? undefined : (this.values[at] ?? undefined)
  }

  get size(): number {
    return this.keys.size
  }

  private add(key: string, value: LabelValue | null, arrivalMs: number): void {
    const at = this.keys.add(key)
    if (at < this.values.length && arrivalMs < this.arrivalsMs[at]!) return
    this.values[at] = value
    this.arrivalsMs[at] = arrivalMs
  }

  /**
   * Reads all of a source. Events that cannot be read are left out here: they are among the run's rejected rows.
   * @param range as `source.open` gave it
   * @param recordTimes whether a record's timestamp says when it arrived: that of a file's line does not
   */
  static async read(
    definition: LabelDefinition,
    source: ReplaySource,
    range: ReplayInput,
    recordTimes: boolean,
    signal: AbortSignal,
  ): Promise<LabelIndex> {
    const index = new LabelIndex()
    const reader = compileEventReader(definition.input.definition)
    for (const { partition, from } of range.partitions) {
      for await (const slice of source.read(partition, from, sliceRecords, signal)) {
        const { batch } = reader.read(slice.records, slice, 0)
        const keys = joinKeys(batch, definition.on)
        const arrivals = arrivalsOf(batch, definition.arrival, recordTimes)
        const value = valueReader(batch, definition.field, definition.type)
        for (let row = 0; row < batch.rowCount; row++)
          if (arrivals[row]! <= definition.knownByMs) index.add(keys(row), value(row), arrivals[row]!)
      }
      signal.throwIfAborted()
    }
    return index
  }
}

function arrivalsOf(batch: Batch, field: string | undefined, recordTimes: boolean): Float64Array {
  if (field !== undefined) return column(batch, field).data as Float64Array
  return recordTimes ? batch.meta.ingestTimesMs : batch.meta.eventTimesMs
}

/** What each row is joined by, as text. */
export function joinKeys(batch: Batch, on: string | undefined): (row: number) => string {
  if (on === undefined) return (row) => batch.meta.ids[row]!
  const { datatype, data } = column(batch, on)
  if (datatype === 'BYTES') return (row) => textAt(data as BytesColumn, row)
  return (row) => String((data as Float64Array | BigInt64Array)[row])
}

/** A field's value in a row; null where it is absent. */
export function valueReader(batch: Batch, field: string, type: FieldType): (row: number) => LabelValue | null {
  const { datatype, data } = column(batch, field)
  if (datatype === 'BYTES') return (row) => textAt(data as BytesColumn, row)
  const values = data as Float64Array | BigInt64Array | Uint8Array
  const absent = (row: number): boolean => Number.isNaN(values[row])
  if (type === 'boolean') return (row) => (absent(row) ? null : Number(values[row]) === 1)
  if (type === 'integer') return (row) => (absent(row) ? null : BigInt(values[row]!))
  return (row) => (absent(row) ? null : Number(values[row]))
}
