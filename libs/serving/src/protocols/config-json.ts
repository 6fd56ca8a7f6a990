import { modelConfig as proto } from '@spillway/wire'

/** Fields whose value is a map: its keys are names of the model's, and stay. */
const maps = new Set(['parameters', 'inputs', 'inputMap', 'outputMap'])

const enums: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  dataType: proto.DataType,
  kind: proto.ModelInstanceGroup_Kind,
  timeoutAction: proto.ModelQueuePolicy_TimeoutAction,
}

/** A ModelConfig as REST gives it: fields by their names in the contract, enums by name, 64-bit integers as numbers, a choice as the field that it is. */
export function configJson(config: proto.ModelConfig): object {
  return fields(config)
}

function fields(message: object): Record<string, unknown> {
  const json: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(message) as [string, unknown][]) {
    if (value === undefined) continue
    if (isChoice(value)) json[snakeCase(value.$case)] = fieldValue(value.$case, value.value)
    else json[snakeCase(key)] = fieldValue(key, value)
  }
  return json
}

function fieldValue(key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (typeof value === 'number') return key in enums ? enumName(enums[key]!, value) : value
  if (Array.isArray(value)) return value.map((item: unknown) => fieldValue('', item))
  if (typeof value !== 'object' || value === null) return value
  if (!maps.has(key)) return fields(value)
  return Object.fromEntries(Object.entries(value).map(([name, item]: [string, unknown]) => [name, fieldValue('', item)]))
}

function isChoice(value: unknown): value is { readonly $case: string; readonly value: unknown } {
  return typeof value === 'object' && value !== null && '$case' in value
}

function enumName(names: Readonly<Record<string, number>>, value: number): string | number {
  return Object.entries(names).find(([, number]) => number === value)?.[0] ?? value
}

function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}
