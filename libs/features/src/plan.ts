import type { ColumnType } from '@spillway/core'
import type { ColumnKind } from './columns/column-data.ts'
import type { MadeSource } from './columns/made.ts'
import type { Step } from './columns/step.ts'
import type { FieldType } from './field-type.ts'
import type { LookupGroup, PlannedLookup } from './lookups/plan.ts'
import type { PlannedHistory, WindowGroup } from './windows/plan.ts'

/** What features need to know of an input. */
export interface FeatureInput {
  readonly fields: ReadonlyMap<string, FieldType>
  /** The field that partitions its topic; where absent no window can be exact without a delay. */
  readonly keyField?: string | undefined
  /** The field that holds the event time, for messages. */
  readonly timeField?: string | undefined
  /** An event older than its key's newest by more is refused. */
  readonly latenessMs: number
  readonly predict: boolean
}

export type ColumnSource =
  | { readonly kind: 'field'; readonly field: string; readonly type: FieldType }
  | { readonly kind: 'column'; readonly column: number }
  /** What the engine computes: `width` numbers a row. */
  | { readonly kind: 'window'; readonly width: number }
  /** What the engine looked up: a `ColumnData` of the value's type. */
  | { readonly kind: 'lookup' }
  /** Made of columns before it. */
  | { readonly kind: 'made'; readonly made: MadeSource }

/** Sources come before what is made from them. */
export interface PlannedColumn {
  readonly name: string
  readonly source: ColumnSource
  readonly steps: readonly Step[]
  /** What the steps leave. */
  readonly kind: ColumnKind
}

/** What is done with one input's events. */
export interface InputPlan {
  readonly name: string
  readonly input: FeatureInput
  /** Indices of the histories that its events are added to. */
  readonly feeds: readonly number[]
  /** Indices of the histories that its windows look at; none unless it predicts. */
  readonly looksAt: readonly number[]
  readonly windows: readonly WindowGroup[]
  readonly lookups: readonly LookupGroup[]
  readonly columns: readonly PlannedColumn[]
  /** Indices in `columns`, in the vector's order. */
  readonly vector: readonly number[]
  /** Numbers that the vector or a history is made from: they must fit FP32's range. */
  readonly numberFields: readonly string[]
}

/** The features of a pipeline, compiled: exact, with every reference resolved. */
export interface FeaturePlan {
  /** Of the section, the fields it names, its modules' functions and its statistics: 16 hex digits. Equal hashes give equal vectors. */
  readonly hash: string
  /** Compiled to fit statistics to: it has no vector yet, and the engine only computes what columns are made from. */
  readonly unfitted: boolean
  readonly histories: readonly PlannedHistory[]
  /** Those that some column reads. */
  readonly lookups: readonly PlannedLookup[]
  readonly inputs: ReadonlyMap<string, InputPlan>
  /** The model's input: column `column`, FP32 [rows, width]; `names` has one entry an element, `channel=web` for a one-hot flag. */
  readonly vector: { readonly column: string; readonly width: number; readonly names: readonly string[]; readonly type: ColumnType }
}
