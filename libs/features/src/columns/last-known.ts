import { MeshError } from '@spillway/core'
import type { FeaturesDefinition } from '../definition.ts'
import { wrong } from '../refusal.ts'
import type { ColumnDefinition } from './definition.ts'
import type { StepDefinition } from './step-definition.ts'

interface WithLastKnown {
  readonly features: FeaturesDefinition
  /** Paths of the steps that want them, by the names of the columns that were added. */
  readonly added: ReadonlyMap<string, string>
}

/**
 * `{ impute: { last: history, within: 7d } }` as what it stands for: a window column of the key's last value before the event, and an impute from that
 * column.
 * @throws MeshError INVALID_ARGUMENT where the column is no field
 */
export function withLastKnown(features: FeaturesDefinition): WithLastKnown {
  const added = new Map<string, string>()
  const windows: Record<string, ColumnDefinition> = {}
  const change = (name: string, column: ColumnDefinition): ColumnDefinition => {
    if (column.steps === undefined) return column
    const steps = column.steps.map((step, index): StepDefinition => {
      const { impute } = step
      if (typeof impute !== 'object' || !('last' in impute)) return step
      const at = `columns.${name}.steps[${index}].impute`
      if (column.field === undefined || column.lookup !== undefined)
        throw wrong(at, 'a history keeps values of fields: take the last known of a column that is made from one')
      const window = `${name}~last${index === 0 ? '' : index}`
      windows[window] = { window: 'last', of: column.field, history: impute.last, length: impute.within }
      added.set(window, at)
      return { impute: { column: window } }
    })
    return { ...column, steps }
  }
  const columns = Object.fromEntries(Object.entries(features.columns).map(([name, column]) => [name, change(name, column)]))
  return { features: { ...features, columns: { ...columns, ...windows } }, added }
}

/** A refusal of an added column is one of the step that wants it. */
export function namingSteps<T>(added: ReadonlyMap<string, string>, compile: () => T): T {
  try {
    return compile()
  } catch (error) {
    if (!(error instanceof MeshError) || error.field === undefined) throw error
    for (const [name, at] of added) {
      if (!error.field.startsWith(`columns.${name}.`)) continue
      const setting = error.field.slice(`columns.${name}.`.length)
      const own: Readonly<Record<string, string>> = { history: '.last', length: '.within', of: '.last' }
      throw new MeshError(error.code, error.message, { field: `${at}${own[setting] ?? ''}`, cause: error })
    }
    throw error
  }
}
