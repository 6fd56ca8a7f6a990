import { MeshError } from '@spillway/core'
import { type ConfigField, type ConfigMessage, type ConfigTree, type ConfigValue, deepestConfig, longestConfig } from './config-tree.ts'

/** A number as it was written: a 64-bit integer is no JavaScript number. */
class Written {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/**
 * Reads a message in protobuf's JSON form (protobuf.dev/programming-guides/json): names as in the contract or in lowerCamelCase, enums by name or number,
 * 64-bit integers as numbers or strings, null for what is absent.
 * @throws MeshError INVALID_ARGUMENT where it is no JSON object
 */
export function parseJsonTree(json: string): ConfigTree {
  if (json.length > longestConfig)
    throw new MeshError('INVALID_ARGUMENT', `the configuration has ${json.length} characters: at most ${longestConfig}`)
  const value = parse(json)
  if (!isObject(value)) throw new MeshError('INVALID_ARGUMENT', 'the configuration must be a JSON object')
  return { root: message(value, 0), format: 'json', place: () => '' }
}

/** With what TypeScript's library does not know yet: the source text of a number (ECMA-262, JSON.parse). */
type ReviveWithSource = (text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown) => unknown

function parse(json: string): unknown {
  try {
    return (JSON.parse as ReviveWithSource)(json, (_key, value, { source }) =>
      typeof value === 'number' ? new Written(source ?? String(value)) : value,
    )
  } catch (error) {
    // A RangeError: it lies too deep for the stack.
    const why = error instanceof SyntaxError ? error.message : 'it is nested too deep'
    throw new MeshError('INVALID_ARGUMENT', `the configuration is not valid JSON: ${why}`, { cause: error })
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Written)
}

function message(object: Readonly<Record<string, unknown>>, depth: number): ConfigMessage {
  if (depth > deepestConfig) throw new MeshError('INVALID_ARGUMENT', `the configuration is nested more than ${deepestConfig} deep`)
  const fields: ConfigField[] = []
  for (const [name, value] of Object.entries(object)) {
    if (value === null) continue
    for (const item of Array.isArray(value) ? (value as unknown[]) : [value]) fields.push({ name, value: node(name, item, depth), at: 0 })
  }
  return { kind: 'message', fields, at: 0 }
}

function node(name: string, value: unknown, depth: number): ConfigValue {
  if (value instanceof Written) return { kind: 'number', text: value.text, at: 0 }
  if (typeof value === 'string') return { kind: 'text', text: value, at: 0 }
  if (typeof value === 'boolean') return { kind: 'word', text: String(value), at: 0 }
  if (isObject(value)) return message(value, depth + 1)
  throw new MeshError('INVALID_ARGUMENT', `${name}: ${Array.isArray(value) ? 'an array in an array' : 'null in an array'} is no value`, {
    field: name,
  })
}
