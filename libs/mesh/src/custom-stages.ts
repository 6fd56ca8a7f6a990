import { MeshError } from '@spillway/core'
import type { FieldType } from '@spillway/features'
import { z } from 'zod'
import { nameSchema } from './names.ts'
import type { StageModule } from './stage-module.ts'

/** Where a stage of one's own stands: before the features, between them and the first tier, before postprocessing. */
type StagePlace = 'events' | 'features' | 'scored'

/** One entry of `stages:` in the pipeline file. */
export interface StageEntry {
  readonly name: string
  /** Path of the TypeScript or JavaScript module, relative to the pipeline file. */
  readonly module: string
  readonly export: string
  readonly at: StagePlace
  /** Of an `events` stage: the inputs whose rows it takes; those that are predicted where absent. */
  readonly inputs?: readonly string[] | undefined
  /** Of a later stage: event fields that it reads, beside the vector. */
  readonly needs: readonly string[]
  readonly adds: Readonly<Record<string, FieldType>>
  readonly settings: Readonly<Record<string, unknown>>
}

const fieldTypes = ['string', 'number', 'integer', 'boolean', 'timestamp'] as const

export const stageEntriesSchema: z.ZodType<readonly StageEntry[]> = z
  .array(
    z.strictObject({
      name: nameSchema,
      module: z.string().min(1),
      export: z.string().min(1).default('default'),
      at: z.enum(
        ['events', 'features', 'scored'],
        'choose events (before the features), features (after them) or scored (before postprocessing)',
      ),
      inputs: z.array(z.string()).min(1).optional(),
      needs: z.array(z.string()).default([]),
      adds: z.record(z.string().min(1), z.enum(fieldTypes, `choose ${fieldTypes.join(', ')}`)).default({}),
      settings: z.record(z.string(), z.unknown()).default({}),
    }),
  )
  .max(64)

/** A stage of one's own, compiled. */
export interface CustomStageDefinition {
  readonly name: string
  readonly at: StagePlace
  /** The inputs whose rows an `events` stage takes. */
  readonly inputs: readonly string[]
  readonly needs: readonly string[]
  /** Columns that it adds: the module's and the file's. */
  readonly adds: ReadonlyMap<string, FieldType>
  readonly settings: Readonly<Record<string, unknown>>
  readonly module: StageModule
}

interface KnownInput {
  readonly predict: boolean
  readonly fields: Readonly<Record<string, unknown>>
}

/**
 * @param modules what `module` and `export` of each entry name, in order
 * @param taken columns of the mesh's own
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path in the file
 */
export function compileCustomStages(
  entries: readonly StageEntry[],
  modules: readonly StageModule[],
  inputs: ReadonlyMap<string, KnownInput>,
  taken: ReadonlySet<string>,
): readonly CustomStageDefinition[] {
  const names = new Set<string>()
  const compiled: CustomStageDefinition[] = []
  entries.forEach((entry, index) => {
    const at = `stages[${index}]`
    const { name, needs, settings } = entry
    if (names.has(name)) throw wrong(`${at}.name`, `two stages are called "${name}"`)
    names.add(name)
    if (/^(preprocessing|postprocessing|feature-log|tier-\d+)$/.test(name))
      throw wrong(`${at}.name`, `"${name}" is a stage of the mesh's own: choose another name`)
    checkPlace(entry, at, inputs)
    const adds = new Map(Object.entries(modules[index]!.adds ?? {}))
    for (const [column, type] of Object.entries(entry.adds)) {
      const other = adds.get(column)
      if (other !== undefined && other !== type) throw wrong(`${at}.adds.${column}`, `the module adds it as a ${other}, not a ${type}`)
      adds.set(column, type)
    }
    const taking = entry.inputs ?? [...inputs].filter(([, input]) => input.predict).map(([input]) => input)
    for (const column of adds.keys()) {
      if (taken.has(column) || column.startsWith('spillway.'))
        throw wrong(`${at}.adds`, `"${column}" is a column of the mesh's own: choose another name`)
      const other = compiled.find(
        (earlier) => earlier.adds.has(column) && (earlier.at !== entry.at || earlier.inputs.some((input) => taking.includes(input))),
      )
      if (other !== undefined) throw wrong(`${at}.adds`, `stage "${other.name}" adds a column "${column}" too`)
      for (const input of taking)
        if (Object.hasOwn(inputs.get(input)!.fields, column))
          throw wrong(`${at}.adds`, `input "${input}" has a field "${column}" of its own`)
    }
    compiled.push({ name, at: entry.at, inputs: taking, needs, adds, settings, module: modules[index]! })
  })
  return compiled
}

function checkPlace(entry: StageEntry, at: string, inputs: ReadonlyMap<string, KnownInput>): void {
  if (entry.at !== 'events' && entry.inputs !== undefined)
    throw wrong(`${at}.inputs`, `only a stage "at: events" is one input's: at "${entry.at}" all predicted rows come by`)
  if (entry.at === 'events' && entry.needs.length > 0) throw wrong(`${at}.needs`, 'a stage "at: events" is given all fields as they are')
  entry.inputs?.forEach((name, index) => {
    if (!inputs.has(name))
      throw wrong(`${at}.inputs[${index}]`, `no input is called "${name}": choose among ${[...inputs.keys()].join(', ')}`)
  })
}

/** The types of an input's fields as the features see them: the event's own, and what stages add to them. */
export function fieldsWithAdded(
  input: string,
  fields: Readonly<Record<string, { readonly type: FieldType }>>,
  stages: readonly CustomStageDefinition[],
): ReadonlyMap<string, FieldType> {
  const types = new Map(Object.entries(fields).map(([field, { type }]) => [field, type]))
  for (const stage of stages)
    if (stage.at === 'events' && stage.inputs.includes(input)) for (const [name, type] of stage.adds) types.set(name, type)
  return types
}

function wrong(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
