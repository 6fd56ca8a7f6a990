import { type Batch, type ColumnType, MeshError, type Mode } from '@spillway/core'
import type { FieldType } from '@spillway/features'

/** What a stage of one's own is called with, beside the rows. */
export interface StageCall<Settings = Readonly<Record<string, unknown>>> {
  /** As in the pipeline file; empty where it gives none. */
  readonly settings: Settings
  /** Fires when nobody wants the answer any more. */
  readonly signal: AbortSignal
  /** A stream may wait; a synchronous call (`request`) has a deadline. */
  readonly mode: Mode
}

/**
 * What becomes of the rows: those of the batch that was given, each once, in their order, with the columns that `adds` names; and those that failed, by
 * their place in the batch that was given, left out of the batch or still in it. A row that fails is a dead letter, or the error of its call.
 */
export type StageModuleResult =
  | Batch
  | { readonly batch: Batch; readonly failures: readonly { readonly row: number; readonly error: Error }[] }

/**
 * A stage of one's own: what a module named under `stages:` exports. Columns of events are as the input declares them: string BYTES, number FP64, integer
 * INT64, boolean BOOL, timestamp FP64 (ms since the epoch), each [rows]; optional ones FP64 with NaN where absent; the vector is `features`, FP32 [rows, width].
 */
export interface StageModule<Settings = Readonly<Record<string, unknown>>> {
  /** Columns that it adds, one value a row each; those of an `events` stage are fields to the features. */
  readonly adds?: Readonly<Record<string, FieldType>>
  /**
   * Must be a function of the rows alone where features are to be the same in training, live and in a replay. Throw a `MeshError` with a transient code, as
   * UNAVAILABLE, to have the slice tried again; after any other error the batch is tried in halves, down to the row that is the cause.
   */
  process(batch: Batch, call: StageCall<Settings>): StageModuleResult | Promise<StageModuleResult>
}

/** Gives a stage its types: `export default defineStage({ adds: { risk: 'number' }, process(batch) { … } })`. */
export function defineStage<Settings = Readonly<Record<string, unknown>>>(stage: StageModule<Settings>): StageModule<Settings> {
  return stage
}

const columnTypes: Readonly<Record<FieldType, ColumnType>> = {
  string: { datatype: 'BYTES', rowShape: [] },
  number: { datatype: 'FP64', rowShape: [] },
  integer: { datatype: 'INT64', rowShape: [] },
  boolean: { datatype: 'BOOL', rowShape: [] },
  timestamp: { datatype: 'FP64', rowShape: [] },
}

/** How a column that a stage adds is held. */
export function columnTypeOf(type: FieldType): ColumnType {
  return columnTypes[type]
}

/** An export taken for a stage. @throws MeshError INVALID_ARGUMENT that says what it should be */
export function asStageModule(value: unknown, title: string, field: string): StageModule {
  const wrong = (message: string): MeshError => new MeshError('INVALID_ARGUMENT', `${title} ${message}`, { field })
  if (typeof value !== 'object' || value === null || typeof (value as StageModule).process !== 'function')
    throw wrong('is no stage: expected an object with a function "process(batch, call)"')
  const { adds = {} } = value as StageModule
  if (typeof adds !== 'object' || adds === null) throw wrong('has "adds" that name no columns: expected { name: type }')
  for (const [name, type] of Object.entries(adds))
    if (!Object.hasOwn(columnTypes, type))
      throw wrong(`adds "${name}" as ${JSON.stringify(type)}: choose string, number, integer, boolean or timestamp`)
  return value as StageModule
}
