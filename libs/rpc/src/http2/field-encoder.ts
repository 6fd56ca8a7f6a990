import type { Fields } from './field-decoder.ts'
import { staticNames, staticValues } from './field-table.ts'

interface StaticName {
  /** The first one with this name. */
  readonly index: number
  /** The indices of the values that the table has for it. */
  readonly values: ReadonlyMap<string, number>
}

const staticByName: ReadonlyMap<string, StaticName> = new Map(
  Map.groupBy(staticNames.keys().drop(1), (index) => staticNames[index]!)
    .entries()
    .map(([name, indices]) => [name, { index: indices[0]!, values: new Map(indices.map((index) => [staticValues[index]!, index])) }]),
)

/** RFC 7541, 6.1: a field of the table, its index in 7 bits. */
const indexedMark = 0x80
/** RFC 7541, 6.2.2: a literal without indexing, its name's index in 4 bits. */
const mostShortIndex = 15
/** RFC 7541, 5.2: a string's length in 7 bits. */
const mostShortLength = 127
/** More than a number below 2^32 takes behind its first byte. */
const mostNumberBytes = 6
/** Copying so few characters one by one is faster than a call of native code. */
const fewCharacters = 24

/**
 * A field block that keeps nothing in the peer's table: fields of the static table where they match in name and value, else literals without indexing, whose
 * names are of the static table where it has them; no Huffman code. Pure: the same fields give the same bytes on every connection.
 *
 * @param fields names in lower case and values, both latin1 text
 */
export function encodeFields(fields: Fields): Buffer {
  let mostBytes = 0
  for (const text of fields) mostBytes += text.length + mostNumberBytes
  const block = Buffer.allocUnsafe(mostBytes)
  let at = 0
  for (let i = 0; i < fields.length; i += 2) {
    const [name, value] = [fields[i]!, fields[i + 1]!]
    const known = staticByName.get(name)
    const index = known?.values.get(value)
    if (index !== undefined) {
      block[at++] = indexedMark | index
      continue
    }
    if (known === undefined) {
      block[at++] = 0
      at = writeString(block, at, name)
    } else {
      at = writeNumber(block, at, known.index, mostShortIndex)
    }
    at = writeString(block, at, value)
  }
  return block.subarray(0, at)
}

function writeString(block: Buffer, at: number, text: string): number {
  const begin = writeNumber(block, at, text.length, mostShortLength)
  if (text.length > fewCharacters) return begin + block.write(text, begin, 'latin1')
  for (let i = 0; i < text.length; i++) block[begin + i] = text.charCodeAt(i)
  return begin + text.length
}

/** RFC 7541, 5.1; the bits of the first byte before the number are 0. */
function writeNumber(block: Buffer, at: number, number: number, mostInFirst: number): number {
  if (number < mostInFirst) {
    block[at] = number
    return at + 1
  }
  block[at] = mostInFirst
  let next = at + 1
  let rest = number - mostInFirst
  for (; rest > 0x7f; rest >>>= 7) block[next++] = (rest & 0x7f) | 0x80
  block[next] = rest
  return next + 1
}
