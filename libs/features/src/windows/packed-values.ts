import { MeshError } from '@spillway/core'
import type { ByteReader, ByteWriter } from './bytes.ts'

/** How one value's numbers are written: the low four bits of a byte. */
const raw = 0
const flags = 1
const decimal = 2
const dictionary = 3
/** A bit a number follows: whether it is there. Only those that are there are written. */
const withAbsent = 8

const mostDecimals = 9
const powersOfTen = Array.from({ length: mostDecimals + 1 }, (_, exponent) => 10 ** exponent)
/** Of a decimal's integers from the least to the largest: more takes as much as FP64. */
const widestDecimal = 2 ** 42
const largestInteger = 2 ** 51
const mostWords = 64

/** -0 is not 0: only its bits say so. */
export function isInteger(value: number): boolean {
  return Math.abs(value) <= largestInteger && Math.floor(value) === value && !(value === 0 && 1 / value < 0)
}

/** Numbers of one value of `count` entries, each bit kept; NaN is one value. */
export function writeValues(writer: ByteWriter, numbers: Float64Array): void {
  let present = 0
  for (let i = 0; i < numbers.length; i++) if (!Number.isNaN(numbers[i]!)) present++
  const there = present === numbers.length ? numbers : numbers.filter((number) => !Number.isNaN(number))
  const absent = there === numbers ? 0 : withAbsent
  const mask = (): void => {
    if (absent !== 0) writeBits(writer, numbers, (number) => !Number.isNaN(number))
  }
  if (there.every((number) => number === 1 || Object.is(number, 0))) {
    writer.byte(flags | absent)
    mask()
    writeBits(writer, there, (number) => number === 1)
    return
  }
  const scale = decimalScale(there)
  if (scale !== undefined) {
    writer.byte(decimal | absent | (scale.exponent << 4))
    mask()
    writer.signed(scale.least)
    const power = powersOfTen[scale.exponent]!
    for (let i = 0; i < there.length; i++) writer.varint(Math.round(there[i]! * power) - scale.least)
    return
  }
  const words = wordsOf(there)
  writer.byte((words === undefined ? raw : dictionary) | absent)
  mask()
  if (words === undefined) for (const number of there) writer.double(number)
  else writeWords(writer, there, words)
}

/** How many decimals make all numbers integers; undefined where none do, or FP64 takes no more. */
function decimalScale(numbers: Float64Array): { readonly exponent: number; readonly least: number } | undefined {
  for (let exponent = 0; exponent <= mostDecimals; exponent++) {
    const power = powersOfTen[exponent]!
    let least = Infinity
    let largest = -Infinity
    let i = 0
    for (; i < numbers.length; i++) {
      const integer = Math.round(numbers[i]! * power)
      // Division is correctly rounded, so that what is equal here is equal when it is read.
      if (!isInteger(integer) || integer / power !== numbers[i]!) break
      if (integer < least) least = integer
      if (integer > largest) largest = integer
    }
    if (i === numbers.length) return largest - least < widestDecimal ? { exponent, least } : undefined
  }
  return undefined
}

/** The different numbers, where they are few. */
function wordsOf(numbers: Float64Array): Map<number, number> | undefined {
  const words = new Map<number, number>()
  for (const number of numbers) {
    // A map takes -0 for 0.
    if (Object.is(number, -0)) return undefined
    if (words.has(number)) continue
    if (words.size * 2 >= numbers.length || words.size === mostWords) return undefined
    words.set(number, words.size)
  }
  return words
}

function writeWords(writer: ByteWriter, numbers: Float64Array, words: ReadonlyMap<number, number>): void {
  writer.byte(words.size)
  for (const word of words.keys()) writer.double(word)
  for (const number of numbers) writer.byte(words.get(number)!)
}

function writeBits(writer: ByteWriter, numbers: Float64Array, bit: (number: number) => boolean): void {
  for (let start = 0; start < numbers.length; start += 8) {
    let byte = 0
    for (let i = start; i < numbers.length && i < start + 8; i++) if (bit(numbers[i]!)) byte |= 1 << (i - start)
    writer.byte(byte)
  }
}

/** Reads what `writeValues` wrote to `values[at]`, `values[at + stride]` … @throws MeshError DATA_LOSS */
export function readValues(reader: ByteReader, values: Float64Array, at: number, stride: number, count: number): void {
  const head = reader.byte()
  const end = at + count * stride
  if ((head & withAbsent) === 0) {
    readPresent(reader, head, values, at, stride, end)
    return
  }
  const mask = new Float64Array(count)
  readBits(reader, mask, 0, 1, count)
  const present = mask.reduce((total, bit) => total + bit, 0)
  const there = new Float64Array(present)
  readPresent(reader, head, there, 0, 1, present)
  let next = 0
  for (let i = 0; i < count; i++) values[at + i * stride] = mask[i] === 1 ? there[next++]! : NaN
}

function readPresent(reader: ByteReader, head: number, values: Float64Array, at: number, stride: number, end: number): void {
  switch (head & 7) {
    case raw:
      for (let i = at; i < end; i += stride) values[i] = reader.double()
      return
    case flags:
      readBits(reader, values, at, stride, end)
      return
    case decimal: {
      const power = powersOfTen[head >> 4]
      if (power === undefined) break
      const least = reader.signed()
      for (let i = at; i < end; i += stride) values[i] = (reader.varint() + least) / power
      return
    }
    case dictionary: {
      const words = Float64Array.from({ length: reader.byte() }, () => reader.double())
      for (let i = at; i < end; i += stride) {
        const index = reader.byte()
        if (index >= words.length) throw new MeshError('DATA_LOSS', `word ${index} of ${words.length}`)
        values[i] = words[index]!
      }
      return
    }
  }
  throw new MeshError('DATA_LOSS', `values are written in an unknown manner (${head})`)
}

function readBits(reader: ByteReader, values: Float64Array, at: number, stride: number, end: number): void {
  let byte = 0
  let left = 0
  for (let i = at; i < end; i += stride) {
    if (left === 0) {
      byte = reader.byte()
      left = 8
    }
    values[i] = byte & 1
    byte >>= 1
    left--
  }
}
