import { parseDurationMs } from '@spillway/core'
import type { FeaturesDefinition } from '../definition.ts'
import type { FeatureInput } from '../plan.ts'
import { listed, wrong } from '../refusal.ts'
import type { LookupColumnDefinition, LookupDefinition, LookupType } from './definition.ts'
import type { LookupGroup, LookupOutput, LookupPlace, PlannedLookup } from './plan.ts'

function typeName(type: LookupType): string {
  return typeof type === 'string' ? type : `vector of ${type.vector}`
}

function keyFieldsOf({ key }: LookupDefinition): readonly string[] {
  return typeof key === 'string' ? [key] : key
}

/** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
export function plannedLookup(title: string, definition: LookupDefinition, inputs: ReadonlyMap<string, FeatureInput>): PlannedLookup {
  const keyFields = keyFieldsOf(definition)
  const at = `lookups.${title}`
  if (keyFields.length > 1 && definition.redis?.includes('{key}') === true)
    throw wrong(
      `${at}.redis`,
      `the key is of several fields: write ${keyFields.map((field) => `{${field}}`).join(' and ')} instead of {key}`,
    )
  const values = Object.entries(definition.values).map(([name, type]) => ({ name, type }))
  for (const { name } of values)
    if (keyFields.includes(name) && definition.redis === undefined)
      throw wrong(`${at}.values.${name}`, `"${name}" is the key: the event has it already`)
  const predicting = [...inputs.values()].filter(({ predict }) => predict)
  return {
    title,
    place: placeOf(definition, keyFields, at),
    keyFields,
    keyTypes: keyFields.map((field) => (predicting.every(({ fields }) => fields.get(field) === 'integer') ? 'integer' : 'string')),
    values,
    timeColumn: definition.time,
    versions: definition.versions ?? false,
  }
}

function placeOf(definition: LookupDefinition, keyFields: readonly string[], at: string): LookupPlace {
  if (definition.file !== undefined)
    return {
      kind: 'file',
      file: definition.file,
      refreshMs: definition.refresh === undefined ? undefined : parseDurationMs(definition.refresh),
    }
  if (definition.table !== undefined) {
    const [file, table] = definition.table.split('#') as [string, string]
    return { kind: 'table', file, table }
  }
  const placeholders = [...definition.redis!.matchAll(/\{([^{}]*)\}/g)].map(([, placeholder]) => placeholder!)
  const expected = keyFields.length === 1 && placeholders.includes('key') ? ['key'] : keyFields
  const stranger = placeholders.find((placeholder) => !expected.includes(placeholder))
  if (stranger !== undefined || expected.some((placeholder) => !placeholders.includes(placeholder)))
    throw wrong(
      `${at}.redis`,
      `"${definition.redis}" must hold ${expected.map((field) => `{${field}}`).join(' and ')} where the key goes, and no other placeholder, as in profile:${expected.map((field) => `{${field}}`).join(':')}`,
    )
  return { kind: 'redis', pattern: definition.redis!, url: definition.url }
}

/** Collects the look-ups of one predicting input. */
export class LookupCompiler {
  /** By index in the plan's lookups. */
  private readonly outputs = new Map<number, LookupOutput[]>()
  private readonly features: FeaturesDefinition
  private readonly titles: readonly string[]
  private readonly of: { readonly name: string; readonly input: FeatureInput }

  /** @param titles the plan's lookups, in order */
  constructor(features: FeaturesDefinition, titles: readonly string[], of: { readonly name: string; readonly input: FeatureInput }) {
    this.features = features
    this.titles = titles
    this.of = of
  }

  /**
   * @param column index in the input's columns
   * @returns the type of the value; the engine gives the column as `ColumnData` (number for number, integer and boolean; timestamp; text; vector)
   * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section
   */
  add(definition: LookupColumnDefinition, column: number, at: string): LookupType {
    const { lookup: title, of: value, field } = definition
    if (!Object.hasOwn(this.features.lookups, title!))
      throw wrong(`${at}.lookup`, `no lookup is called "${title}": choose among ${listed(Object.keys(this.features.lookups))}`)
    const lookup = this.features.lookups[title!]!
    const names = Object.keys(lookup.values)
    if (!names.includes(value!))
      throw wrong(`${at}.of`, `lookup "${title}" has no value "${value}": choose among ${listed(names)}, or add it to its values`)
    const type = lookup.values[value!]!
    this.checkKeys(lookup, title!, at)
    if (field !== undefined) this.checkField(field, type, at)
    if (definition.maxAge !== undefined && lookup.time === undefined)
      throw wrong(`${at}.maxAge`, `lookup "${title}" does not say how old its values are: give it "time"`)
    const maxAge = definition.maxAge ?? lookup.maxAge
    const output = {
      column,
      value: names.indexOf(value!),
      maxAgeMs: maxAge === undefined ? Infinity : parseDurationMs(maxAge),
      missing: missingValue(definition.default, type, `${at}.default`),
      field,
    }
    const index = this.titles.indexOf(title!)
    const outputs = this.outputs.get(index)
    if (outputs === undefined) this.outputs.set(index, [output])
    else outputs.push(output)
    return type
  }

  private checkKeys(lookup: LookupDefinition, title: string, at: string): void {
    const { input, name } = this.of
    for (const field of keyFieldsOf(lookup)) {
      const keyType = input.fields.get(field)
      if (keyType === undefined)
        throw wrong(
          `${at}.lookup`,
          `lookup "${title}" goes by "${field}", and input "${name}" has no such field: its fields are ${listed(input.fields.keys())}`,
        )
      if (keyType !== 'string' && keyType !== 'integer')
        throw wrong(
          `${at}.lookup`,
          `lookup "${title}" goes by "${field}", which is a ${keyType} in input "${name}": a key is a string or an integer`,
        )
    }
  }

  private checkField(field: string, type: LookupType, at: string): void {
    const { input, name } = this.of
    const fieldType = input.fields.get(field)
    if (fieldType === undefined)
      throw wrong(`${at}.field`, `input "${name}" has no field "${field}": choose among ${listed(input.fields.keys())}`)
    if (kindOf(fieldType) !== kindOf(type))
      throw wrong(`${at}.field`, `"${field}" is a ${fieldType}, and stands for a looked-up ${typeName(type)}: both must be of one type`)
  }

  groups(): LookupGroup[] {
    return [...this.outputs].sort(([a], [b]) => a - b).map(([lookup, outputs]) => ({ lookup, outputs }))
  }
}

export type LookupKind = 'number' | 'timestamp' | 'text' | 'vector'

export function kindOf(type: LookupType): LookupKind {
  if (typeof type !== 'string') return 'vector'
  return type === 'string' ? 'text' : type === 'timestamp' ? 'timestamp' : 'number'
}

function missingValue(given: LookupColumnDefinition['default'], type: LookupType, at: string): LookupOutput['missing'] {
  const refuse = (expected: string): never => {
    throw wrong(at, `${JSON.stringify(given)} does not stand for a looked-up ${typeName(type)}: give ${expected}`)
  }
  if (typeof type !== 'string') {
    if (given === undefined || typeof given === 'number') return new Array<number>(type.vector).fill(given ?? NaN)
    return Array.isArray(given) && given.length === type.vector
      ? (given as readonly number[])
      : refuse(`a number, or a list of ${type.vector}`)
  }
  if (given === undefined) return type === 'string' ? '' : NaN
  switch (type) {
    case 'string':
      return typeof given === 'string' ? given : refuse('text')
    case 'number':
      return typeof given === 'number' ? given : refuse('a number')
    case 'integer':
      return Number.isSafeInteger(given) ? (given as number) : refuse('a whole number')
    case 'boolean':
      return typeof given === 'boolean' ? Number(given) : refuse('true or false')
    case 'timestamp': {
      const timeMs = typeof given === 'string' ? Date.parse(given) : given
      return typeof timeMs === 'number' && Number.isFinite(timeMs) ? timeMs : refuse('RFC 3339 text or epoch milliseconds')
    }
    default:
      return type satisfies never
  }
}
