import { MeshError } from '@spillway/core'

/**
 * Parts of a JSON text as the bytes that they are. Events go on byte for byte: parsing and writing them again would change
 * numbers beyond 2^53, their spelling and the order of fields.
 */
export interface JsonText {
  /** Without a byte order mark. */
  readonly bytes: Uint8Array
  readonly value: unknown
}

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** @throws MeshError INVALID_ARGUMENT where the bytes are not JSON in UTF-8. */
export function parseJson(body: Uint8Array, what: string): JsonText {
  try {
    const bytes = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body
    return { bytes, value: JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) }
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${what} is not JSON: ${(error as Error).message}`, { cause: error })
  }
}

/** The values of an array's elements. `json` must be a valid JSON array. */
export function elementSlices(json: Uint8Array): Uint8Array[] {
  const slices: Uint8Array[] = []
  let at = skipSpace(json, skipSpace(json, 0) + 1)
  while (json[at] !== closeBracket) {
    const end = valueEnd(json, at)
    slices.push(json.subarray(at, end))
    at = nextItem(json, end)
  }
  return slices
}

/** The values of an object's members by name; of a name given twice the last, as `JSON.parse` does. `json` must be a valid JSON object. */
export function memberSlices(json: Uint8Array): Map<string, Uint8Array> {
  const slices = new Map<string, Uint8Array>()
  let at = skipSpace(json, skipSpace(json, 0) + 1)
  while (json[at] !== closeBrace) {
    const nameEnd = valueEnd(json, at)
    const name = JSON.parse(new TextDecoder().decode(json.subarray(at, nameEnd))) as string
    const start = skipSpace(json, skipSpace(json, nameEnd) + 1)
    const end = valueEnd(json, start)
    slices.set(name, json.subarray(start, end))
    at = nextItem(json, end)
  }
  return slices
}

/** The lines of newline-delimited JSON, blank ones left out. */
export function lineSlices(body: Uint8Array): Uint8Array[] {
  const slices: Uint8Array[] = []
  for (let start = 0; start < body.length;) {
    const newline = body.indexOf(0x0a, start)
    const end = newline === -1 ? body.length : newline
    const line = body.subarray(start, body[end - 1] === 0x0d ? end - 1 : end)
    if (skipSpace(line, 0) < line.length) slices.push(line)
    start = end + 1
  }
  return slices
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function skipSpace(json: Uint8Array, at: number): number {
  while (isSpace(json[at])) at++
  return at
}

/** Where the next element or member begins, or the closing bracket. */
function nextItem(json: Uint8Array, end: number): number {
  const at = skipSpace(json, end)
  return json[at] === comma ? skipSpace(json, at + 1) : at
}

/** The end (exclusive) of the value that begins at `start`. */
function valueEnd(json: Uint8Array, start: number): number {
  const first = json[start]
  if (first === quote) return stringEnd(json, start)
  let at = start
  if (first !== openBrace && first !== openBracket) {
    while (
      at < json.length &&
      !isSpace(json[at]) &&
      json[at] !== comma &&
      json[at] !== closeBracket &&
      json[at] !== closeBrace &&
      json[at] !== colon
    )
      at++
    return at
  }
  let depth = 0
  do {
    const byte = json[at]
    if (byte === quote) {
      at = stringEnd(json, at)
      continue
    }
    if (byte === openBrace || byte === openBracket) depth++
    else if (byte === closeBrace || byte === closeBracket) depth--
    at++
  } while (depth > 0 && at < json.length)
  return at
}

function stringEnd(json: Uint8Array, start: number): number {
  let at = start + 1
  while (at < json.length && json[at] !== quote) at += json[at] === backslash ? 2 : 1
  return at + 1
}
