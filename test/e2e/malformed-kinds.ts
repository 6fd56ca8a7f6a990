import type { IHeaders } from 'kafkajs'

/** Largest event that is read (`maxEventBytes` where the pipeline file says nothing), in bytes. */
export const maxEventBytes = 262_144

/** The fields of a good event of its topic. */
export type Fields = Readonly<Record<string, unknown>>

/** A record as a producer sends it. */
export interface Sent {
  /** `null` is a tombstone. */
  readonly value: Buffer | string | null
  readonly headers?: IHeaders
  /** Where absent, that of the good event. */
  readonly key?: string
}

/** A way to spoil a good event, and what its dead letter must say. */
export interface Kind {
  readonly name: string
  /** What the message says of it. */
  readonly says: RegExp
  readonly make: (good: Fields) => Sent
  /** The field that is to blame, where it is one. */
  readonly field: string | undefined
  readonly code: string
}

export function kind(
  name: string,
  says: RegExp,
  make: (good: Fields) => Sent | Sent['value'],
  field?: string,
  code = 'INVALID_ARGUMENT',
): Kind {
  const sent = (made: Sent | Sent['value']): Sent =>
    made === null || typeof made === 'string' || Buffer.isBuffer(made) ? { value: made } : made
  return { name, says, make: (good) => sent(make(good)), field, code }
}

export function text(good: Fields, change: Fields = {}): string {
  return JSON.stringify({ ...good, ...change })
}

/** The event with more members, which may be no JSON. */
export function withMembers(good: Fields, members: string): string {
  return `${text(good).slice(0, -1)},${members}}`
}

/** The event with a value that JSON.stringify would not write. */
export function withValue(good: Fields, field: string, value: string): string {
  return withMembers({ ...good, [field]: undefined }, `"${field}":${value}`)
}

/** The event in exactly so many bytes. */
export function padded(good: Fields, bytes: number): string {
  return withMembers(good, `"padding":"${'x'.repeat(bytes - Buffer.byteLength(withMembers(good, '"padding":""')))}"`)
}

export function bytes(...parts: readonly (string | readonly number[])[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from(part))))
}

export function nested(open: string, close: string, levels: number): string {
  return `${open.repeat(levels)}1${close.repeat(levels)}`
}
