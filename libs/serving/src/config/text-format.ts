import { MeshError } from '@spillway/core'
import { type ConfigField, type ConfigMessage, type ConfigTree, type ConfigValue, deepestConfig, longestConfig } from './config-tree.ts'
import { TextScanner } from './text-scanner.ts'

/**
 * Reads protobuf's text format (protobuf.dev/reference/protobuf/textformat-spec) without a schema: messages in `{}` or `<>`, lists, strings put together,
 * numbers as written. Extensions and `Any` (names in brackets) are refused.
 * @throws MeshError INVALID_ARGUMENT with line and column, and what was expected there
 */
export function parseTextFormat(text: string): ConfigTree {
  if (text.length > longestConfig)
    throw new MeshError('INVALID_ARGUMENT', `the configuration has ${text.length} characters: at most ${longestConfig}`)
  const scanner = new TextScanner(text)
  const fields = readFields(scanner, '', 0)
  return { root: { kind: 'message', fields, at: 0 }, format: 'text', place: (at) => scanner.place(at) }
}

/** @param end what closes the message; '' for the file's end */
function readFields(scanner: TextScanner, end: string, depth: number): ConfigField[] {
  if (depth > deepestConfig) throw scanner.error(scanner.at, `messages lie more than ${deepestConfig} deep in each other`)
  const fields: ConfigField[] = []
  while (scanner.peek() !== end) {
    const { at } = scanner
    if (scanner.peek() === '[') throw scanner.error(at, 'extensions and Any are not supported: expected the name of a field')
    const name = scanner.name()
    if (name === undefined) throw scanner.unexpected(end === '' ? 'the name of a field' : `the name of a field, or "${end}"`)
    // Before a message, or a list of messages, the colon may be left out.
    const colon = scanner.skip(':')
    const opens = /[{<[]/.test(scanner.peek())
    if (!colon && !opens) throw scanner.unexpected(`":" or "{" after "${name}"`)
    if (scanner.skip('[')) readList(scanner, name, at, depth, fields)
    else fields.push({ name, value: readValue(scanner, name, depth), at })
    if (!scanner.skip(',')) scanner.skip(';')
  }
  if (end !== '') scanner.skip(end)
  return fields
}

function readList(scanner: TextScanner, name: string, at: number, depth: number, fields: ConfigField[]): void {
  if (scanner.skip(']')) return
  do fields.push({ name, value: readValue(scanner, name, depth), at })
  while (scanner.skip(','))
  if (!scanner.skip(']')) throw scanner.unexpected('"," or "]"')
}

function readValue(scanner: TextScanner, name: string, depth: number): ConfigValue {
  const { at } = scanner
  if (scanner.skip('{')) return message(readFields(scanner, '}', depth + 1), at)
  if (scanner.skip('<')) return message(readFields(scanner, '>', depth + 1), at)
  const text = scanner.strings()
  if (text !== undefined) return { kind: 'text', text, at }
  const number = scanner.number()
  if (number !== undefined) return { kind: 'number', text: number, at }
  const word = scanner.name()
  if (word !== undefined) return { kind: 'word', text: word, at }
  throw scanner.unexpected(`a value for "${name}"`)
}

function message(fields: readonly ConfigField[], at: number): ConfigMessage {
  return { kind: 'message', fields, at }
}
