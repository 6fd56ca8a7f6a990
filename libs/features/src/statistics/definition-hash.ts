import { createHash } from 'node:crypto'
import type { ColumnDefinition } from '../columns/definition.ts'
import { type StepDefinition, stepName, type StepName } from '../columns/step-definition.ts'
import type { FeaturesDefinition } from '../definition.ts'
import { namesOf } from '../expressions/names.ts'
import type { FeatureInput } from '../plan.ts'

/** 16 hex digits of SHA-256 over JSON with sorted keys. */
export function hashOf(value: unknown): string {
  return createHash('sha256').update(canonical(value)).digest('hex').slice(0, 16)
}

function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`)
    .join(',')}}`
}

function hasKey(setting: unknown, key: string): boolean {
  return typeof setting === 'object' && setting !== null && key in setting
}

const fittedForms: Partial<Readonly<Record<StepName, (setting: unknown) => boolean>>> = {
  impute: (setting) => setting === 'mean',
  standardise: (setting) => setting === 'fitted',
  normalise: (setting) => setting === 'fitted',
  clip: (setting) => hasKey(setting, 'quantiles'),
  bucketise: (setting) => hasKey(setting, 'quantiles'),
  vocabulary: (setting) => hasKey(setting, 'size'),
  tfidf: () => true,
}

/** Whether statistics are needed for it. */
function isFitted(step: StepDefinition): boolean {
  const name = stepName(step)
  return fittedForms[name]?.(step[name]) ?? false
}

/** A section, as one predicting input sees it. */
export interface Section {
  readonly features: FeaturesDefinition
  readonly input: FeatureInput
  /** Text of a function of a module, where it is imported; files by path. */
  readonly functionText: (path: string, name: string) => string
  readonly fileText: (path: string) => string
}

/** What a column's fitted steps depend on: changing anything else leaves their statistics as good as they were. */
export function fittedDefinitionHash(name: string, section: Section): string {
  const steps = section.features.columns[name]?.steps ?? []
  return hashOf(described(name, section, steps.findLastIndex(isFitted) + 1))
}

/** All that a column or field is, and is made from. */
export function definitionHash(name: string, section: Section): string {
  return hashOf(described(name, section, undefined))
}

function described(name: string, section: Section, stepCount: number | undefined): unknown {
  const column = section.features.columns[name]
  if (column === undefined) return { field: name, type: section.input.fields.get(name) }
  const { steps = [], ...source } = column
  const kept = stepCount === undefined ? steps : steps.slice(0, stepCount)
  return {
    source,
    steps: kept,
    from: [...sourcesOf(column, kept)].map((other) =>
      other === name ? { field: name, type: section.input.fields.get(name) } : described(other, section, undefined),
    ),
    field: column.field === undefined ? undefined : section.input.fields.get(column.field),
    history: column.history === undefined ? undefined : section.features.histories[column.history],
    lookup: column.lookup === undefined ? undefined : section.features.lookups[column.lookup],
    code: column.module === undefined ? undefined : section.functionText(column.module, column.export ?? ''),
    files: kept.flatMap(({ vocabulary }) =>
      typeof vocabulary === 'object' && 'file' in vocabulary ? [section.fileText(vocabulary.file)] : [],
    ),
  }
}

function sourcesOf(column: ColumnDefinition, steps: readonly StepDefinition[]): ReadonlySet<string> {
  const imputed = steps.flatMap(({ impute }) => (typeof impute === 'object' && 'column' in impute ? [impute.column] : []))
  const expressed = column.expression === undefined ? [] : namesOf(column.expression)
  const direct = column.column === undefined ? [] : [column.column]
  return new Set([...direct, ...(column.cross ?? []), ...(column.polynomial ?? []), ...(column.from ?? []), ...expressed, ...imputed])
}
