import { MeshError } from '@spillway/core'
import type { ConfigField, ConfigMessage, ConfigTree, ConfigValue } from './config-tree.ts'

/** More than anybody reads. */
const mostWarnings = 50

/** What the readers of one file share. */
interface Reading {
  readonly tree: ConfigTree
  readonly warnings: string[]
}

/** A reader's view of a whole file. */
export function openTree(tree: ConfigTree): { readonly reader: MessageReader; readonly warnings: readonly string[] } {
  const warnings: string[] = []
  return { reader: new MessageReader(tree.root, '', { tree, warnings }), warnings }
}

/**
 * Reads one message's fields by name and kind. What was not asked for by `end` is an error that names what is known, so that the calls are the schema.
 * Errors are INVALID_ARGUMENT with the place in the file and the field's path (`input[0].dims`).
 */
export class MessageReader {
  readonly #message: ConfigMessage
  readonly #path: string
  readonly #reading: Reading
  readonly #known = new Set<string>()
  #later: MeshError | undefined

  constructor(message: ConfigMessage, path: string, reading: Reading) {
    this.#message = message
    this.#path = path
    this.#reading = reading
  }

  text(name: string): string | undefined {
    const field = this.#one(name)
    return field === undefined ? undefined : this.#text(field.value, this.#below(name))
  }

  texts(name: string): readonly string[] {
    return this.#all(name).map(({ value }, index) => this.#text(value, this.#below(name, index)))
  }

  #text(value: ConfigValue, path: string): string {
    if (value.kind !== 'text') throw this.#error(path, value.at, `expected a string in quotes, found ${found(value)}`)
    return value.text
  }

  int(name: string, range: IntRange): number | undefined {
    const field = this.#one(name)
    return field === undefined ? undefined : Number(this.#int(field.value, this.#below(name), range))
  }

  ints(name: string, range: IntRange): readonly number[] {
    return this.#all(name).map(({ value }, index) => Number(this.#int(value, this.#below(name, index), range)))
  }

  /** Versions of models, from 1 to 2^63 - 1, as decimal text. */
  versions(name: string): readonly string[] {
    return this.#all(name).map(({ value }, index) => String(this.#int(value, this.#below(name, index), versionRange)))
  }

  #int(value: ConfigValue, path: string, { least, most = Number.MAX_SAFE_INTEGER }: IntRange): bigint {
    const isNumber = value.kind === 'number' || (value.kind === 'text' && this.#reading.tree.format === 'json')
    const integer = isNumber ? toInteger(value.text) : undefined
    if (integer === undefined) throw this.#error(path, value.at, `expected a whole number, found ${found(value)}`)
    if (integer < least || integer > most) {
      const upTo = most === Number.MAX_SAFE_INTEGER ? `at least ${least}` : `from ${least} to ${most}`
      throw this.#error(path, value.at, `expected a whole number ${upTo}, found ${integer}`)
    }
    return integer
  }

  flag(name: string): boolean | undefined {
    const field = this.#one(name)
    if (field === undefined) return undefined
    const { value } = field
    const flag = value.kind === 'message' ? undefined : flags.get(value.text)
    if (flag === undefined || (value.kind === 'text' && this.#reading.tree.format === 'text'))
      throw this.#error(this.#below(name), value.at, `expected true or false, found ${found(value)}`)
    return flag
  }

  /** The name of an enum's value. @param names by number; '' where there is no such number */
  choice<const Name extends string>(name: string, names: readonly Name[]): Name | undefined {
    const field = this.#one(name)
    if (field === undefined) return undefined
    const { value } = field
    const isName = value.kind === 'word' || (value.kind === 'text' && this.#reading.tree.format === 'json')
    const number = value.kind === 'number' ? toInteger(value.text) : undefined
    const chosen = isName ? names.find((known) => known === value.text) : number === undefined ? undefined : names[Number(number)]
    if (chosen === undefined || chosen === '')
      throw this.#error(this.#below(name), value.at, `expected one of ${names.filter(Boolean).join(', ')}, found ${found(value)}`)
    return chosen
  }

  message(name: string): MessageReader | undefined {
    const field = this.#one(name)
    return field === undefined ? undefined : this.#open(field.value, this.#below(name))
  }

  messages(name: string): readonly MessageReader[] {
    return this.#all(name).map(({ value }, index) => this.#open(value, this.#below(name, index)))
  }

  #open(value: ConfigValue, path: string): MessageReader {
    if (value.kind !== 'message') throw this.#error(path, value.at, `expected a message in braces, found ${found(value)}`)
    return new MessageReader(value, path, this.#reading)
  }

  /** A map of messages. The last of equal keys counts, as protobuf has it. */
  map<T>(name: string, read: (value: MessageReader, key: string) => T): ReadonlyMap<string, T> {
    return this.#map(name, (value, path, key) => read(this.#open(value, path), key))
  }

  /** A map of strings. */
  textMap(name: string): ReadonlyMap<string, string> {
    return this.#map(name, (value, path) => this.#text(value, path))
  }

  /** A map to versions of models. */
  versionMap(name: string): ReadonlyMap<string, string> {
    return this.#map(name, (value, path) => String(this.#int(value, path, versionRange)))
  }

  #map<T>(name: string, read: (value: ConfigValue, path: string, key: string) => T): ReadonlyMap<string, T> {
    const entries = new Map<string, T>()
    const add = (key: string, value: ConfigValue): void => void entries.set(key, read(value, `${this.#below(name)}["${key}"]`, key))
    for (const { value } of this.#all(name)) {
      if (value.kind !== 'message') throw this.#error(this.#below(name), value.at, `expected a map, found ${found(value)}`)
      if (this.#reading.tree.format === 'json') for (const entry of value.fields) add(entry.name, entry.value)
      else this.#mapEntry(name, value, add)
    }
    return entries
  }

  #mapEntry(name: string, message: ConfigMessage, add: (key: string, value: ConfigValue) => void): void {
    const entry = new MessageReader(message, this.#below(name), this.#reading)
    const key = entry.text('key')
    const value = entry.#one('value')
    entry.end()
    if (key === undefined || value === undefined)
      throw this.#error(this.#below(name), message.at, 'expected an entry { key: "…" value: … }')
    add(key, value.value)
  }

  /** The field of those that is there; more than one is an error (a `oneof`). */
  oneOf<const Name extends string>(names: readonly Name[]): Name | undefined {
    const there = names.filter((name) => this.#find(name).length > 0)
    if (there.length > 1)
      throw this.#error(this.#below(there[1]!), this.#find(there[1]!)[0]!.at, `there is ${there[0]} already: only one of them may be given`)
    return there[0]
  }

  /** Fields that mean something elsewhere, and nothing here: a warning where they say anything. */
  unused(reason: string, ...names: readonly string[]): void {
    const { tree, warnings } = this.#reading
    for (const name of names)
      for (const { value, at } of this.#all(name)
        .filter((field) => !isDefault(field.value))
        .slice(0, 1))
        if (warnings.length < mostWarnings)
          warnings.push(`${tree.place(at)}${this.#below(name)} = ${found(value)} has no effect: ${reason}`)
  }

  /** Fields whose meaning is not to be had here: an error where they say anything. */
  refused(reason: string, ...names: readonly string[]): void {
    for (const name of names) {
      const field = this.#all(name).find(({ value }) => !isDefault(value))
      if (field !== undefined) throw this.#error(this.#below(name), field.at, `is not supported: ${reason}`)
    }
  }

  /** Has `end` say what is missing: a field that is misspelt is said first. */
  mustHave(isThere: boolean, name: string, message: string): void {
    if (!isThere) this.#later ??= this.error(name, message)
  }

  /** @throws MeshError naming the first field that nobody asked for, and those that there are; else what is missing */
  end(): void {
    for (const { name, at } of this.#message.fields)
      if (!this.#known.has(snakeCase(name))) {
        const those = [...this.#known].toSorted().join(', ')
        throw this.#error(this.#below(name), at, `there is no such field: expected ${those === '' ? 'none' : `one of ${those}`}`)
      }
    if (this.#later !== undefined) throw this.#later
  }

  /** A refusal of a field's value, or of the message's where it is absent. */
  error(name: string, message: string): MeshError {
    const [field] = this.#find(name)
    return this.#error(this.#below(name), field?.at ?? this.#message.at, message)
  }

  #one(name: string): ConfigField | undefined {
    const fields = this.#all(name)
    if (fields.length > 1) throw this.#error(this.#below(name), fields[1]!.at, 'is given more than once')
    return fields[0]
  }

  #all(name: string): readonly ConfigField[] {
    this.#known.add(name)
    return this.#find(name)
  }

  #find(name: string): readonly ConfigField[] {
    const isIt =
      this.#reading.tree.format === 'json'
        ? (field: ConfigField) => snakeCase(field.name) === name
        : (field: ConfigField) => field.name === name
    return this.#message.fields.filter(isIt)
  }

  #below(name: string, index?: number): string {
    const own = index === undefined ? name : `${name}[${index}]`
    return this.#path === '' ? own : `${this.#path}.${own}`
  }

  #error(path: string, at: number, message: string): MeshError {
    return new MeshError('INVALID_ARGUMENT', `${this.#reading.tree.place(at)}${path}: ${message}`, { field: path })
  }
}

interface IntRange {
  readonly least: number
  /** Default 2^53 - 1. */
  readonly most?: number | bigint
}

const versionRange: IntRange = { least: 1, most: 2n ** 63n - 1n }

const flags: ReadonlyMap<string, boolean> = new Map(
  Object.entries({ true: true, True: true, t: true, 1: true, false: false, False: false, f: false, 0: false }),
)

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function toInteger(text: string): bigint | undefined {
  const [, minus = '', digits = ''] = /^(-?)(0[xX][0-9a-fA-F]{1,16}|\d{1,22})$/.exec(text) ?? []
  if (digits === '') return undefined
  const octal = /^0[0-7]+$/.test(digits)
  if (!octal && /^0\d/.test(digits)) return undefined
  const value = BigInt(octal ? `0o${digits.slice(1)}` : digits)
  return minus === '' ? value : -value
}

/** What the field would be if it were not there. */
function isDefault(value: ConfigValue): boolean {
  if (value.kind === 'message') return value.fields.every((field) => isDefault(field.value))
  return value.text === '' || flags.get(value.text) === false || value.text === '0.0'
}

function found(value: ConfigValue): string {
  if (value.kind === 'message') return '{ … }'
  const short = value.text.length > 60 ? `${value.text.slice(0, 60)}…` : value.text
  return value.kind === 'text' ? JSON.stringify(short) : short
}
