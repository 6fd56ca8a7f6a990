import { z } from 'zod'
import { listed, wrong } from '../refusal.ts'
import { ByteVocabulary } from './byte-vocabulary.ts'
import { type ColumnData, type ColumnKind, numbersIn } from './column-data.ts'
import { hashNumbers } from './murmur3.ts'
import { NumberVocabulary } from './number-vocabulary.ts'
import type { StepDefinition } from './step-definition.ts'
import { type ColumnRun, type CompiledStep, needs, type StepCompilers, type StepContext } from './step.ts'
import type { TextColumn } from './text-column.ts'

type Words = readonly (string | number)[]

/** Most flags that one column may be in the vector. */
const mostFlags = 4096

type Finder = (data: ColumnData, run: ColumnRun) => Int32Array

/** The column's values as their places among `words`; -1 where absent, `unknown` for others. */
function finder(words: Words, from: ColumnKind, unknown: number, at: string): Finder {
  if (from.kind === 'text') {
    const vocabulary = new ByteVocabulary(words.map(String))
    return (data, run) => vocabulary.findAll(data.values as TextColumn, unknown, run.scratch.indices())
  }
  words.forEach((word, index) => {
    if (typeof word !== 'number') throw wrong(`${at}[${index}]`, `"${word}" is text, and what it is matched with is a number`)
  })
  const vocabulary = new NumberVocabulary(words as readonly number[])
  return (data, run) => vocabulary.findAll(numbersIn(data), unknown, run.scratch.indices())
}

function encoded(size: number, find: Finder): CompiledStep['step'] {
  return { kind: 'map', apply: (data, run) => ({ kind: 'index', values: find(data, run), size, first: 0 }) }
}

function wordsOf(setting: NonNullable<StepDefinition['vocabulary']>, from: ColumnKind, context: StepContext): Words {
  const at = `${context.at}.vocabulary`
  if (Array.isArray(setting)) return setting as Words
  if ('file' in setting) return fileWords(context.file(setting.file, `${at}.file`), from, `${at}.file`, setting.file)
  const { size, atLeast } = setting as { readonly size: number; readonly atLeast: number }
  const { words } = context.fitted({
    schema: z.strictObject({ words: z.array(from.kind === 'text' ? z.string() : z.number()).min(1) as z.ZodType<Words> }),
    unfitted: { words: [] as Words },
    fit: (data) => ({ words: mostFrequent(data, size, atLeast, context) }),
  })
  return words
}

/** One word a line; empty lines are none. */
function fileWords(text: string, from: ColumnKind, at: string, path: string): Words {
  const lines = text.split(/\r?\n/).filter((line) => line !== '')
  if (lines.length === 0) throw wrong(at, `${path} holds no words: it has one a line`)
  const seen = new Map<string, number>()
  return lines.map((line, index) => {
    const other = seen.get(line)
    if (other !== undefined) throw wrong(at, `${path} has "${line}" twice, as words ${other} and ${index + 1}: each once`)
    seen.set(line, index + 1)
    if (from.kind === 'text') return line
    const number = Number(line)
    if (Number.isNaN(number)) throw wrong(at, `word ${index + 1} of ${path}, "${line}", is no number, and what it is matched with is one`)
    return number
  })
}

/** The `size` values that are there most often, `atLeast` times: most often first, then by order. */
function mostFrequent(data: ColumnData, size: number, atLeast: number, context: StepContext): Words {
  const counts = new Map<string | number, number>()
  for (const value of data.kind === 'text' ? data.values.strings : numbersIn(data))
    if (value !== '' && !Number.isNaN(value)) counts.set(value, (counts.get(value) ?? 0) + 1)
  const words = [...counts].filter(([, count]) => count >= atLeast).sort(([a, countA], [b, countB]) => countB - countA || (a < b ? -1 : 1))
  if (words.length === 0)
    throw wrong(
      context.at,
      counts.size === 0
        ? `none of the rows to fit it on has a value of column "${context.columnName}"`
        : `no value of column "${context.columnName}" is there ${atLeast} times: lower atLeast`,
    )
  return words.slice(0, size).map(([word]) => word)
}

export const categorySteps: StepCompilers<'vocabulary' | 'hash' | 'oneHot'> = {
  vocabulary(setting, from, context, { unknown }) {
    needs(from, ['text', 'number', 'index'], context, 'vocabulary')
    const words = wordsOf(setting, from, context)
    if (unknown !== undefined && unknown > words.length && words.length > 0)
      throw wrong(
        `${context.at}.unknown`,
        `the vocabulary has ${words.length} words, 0 to ${words.length - 1}: unknown words are ${words.length}, or one of these`,
      )
    const find = finder(words, from, unknown ?? -1, `${context.at}.vocabulary`)
    const size = Math.max(words.length, (unknown ?? 0) + 1)
    const categories = words.length < size ? [...words.map(String), 'unknown'] : words.map(String)
    return { step: encoded(size, find), gives: { kind: 'index', size, first: 0, categories } }
  },
  hash({ buckets, seed }, from, context) {
    needs(from, ['text', 'number', 'index'], context, 'hash')
    const apply = (data: ColumnData, run: ColumnRun): ColumnData => ({
      kind: 'index',
      values: hashed(data, { buckets, seed }, run),
      size: buckets,
      first: 0,
    })
    return { step: { kind: 'map', apply }, gives: { kind: 'index', size: buckets, first: 0 } }
  },
  oneHot(setting, from, context) {
    if (from.kind === 'timestamp') throw wrong(context.at, 'a timestamp is not matched: take its hour or weekday first')
    if (setting === true) return allFlags(from, context)
    needs(from, ['text', 'number', 'index'], context, 'oneHot')
    const find = finder(setting, from, -1, `${context.at}.oneHot`)
    return { step: encoded(setting.length, find), gives: { kind: 'flags', elements: setting.map((value) => `=${value}`) } }
  },
}

function hashed(data: ColumnData, of: { readonly buckets: number; readonly seed: number }, run: ColumnRun): Int32Array {
  const { seed } = of
  // Known to be 32 bits, so that the remainder is one of integers.
  const buckets = of.buckets >>> 0
  const indices = run.scratch.indices()
  if (data.kind === 'text') {
    const { offsets } = data.values.bytes
    const hashes = data.values.hashesOf(seed)
    for (let row = 0; row < indices.length; row++) indices[row] = offsets[row] === offsets[row + 1] ? -1 : hashes[row]! % buckets
    return indices
  }
  const values = numbersIn(data)
  const hashes = run.scratch.hashes()
  hashNumbers(values, seed, hashes)
  for (let row = 0; row < indices.length; row++) indices[row] = Number.isNaN(values[row]) ? -1 : hashes[row]! % buckets
  return indices
}

/** One flag a category, where it is known how many there are. */
function allFlags(from: ColumnKind, context: StepContext): CompiledStep {
  if (from.kind !== 'index')
    throw wrong(
      context.at,
      `oneHot alone is made from categories of known number, and this is a ${from.kind === 'text' ? 'string' : from.kind}: list the values, or encode it first (vocabulary, hash, bucketise, ${listed(['hour', 'weekday'])})`,
    )
  if (from.size > mostFlags) throw wrong(context.at, `${from.size} categories are more flags than ${mostFlags}: encode fewer`)
  const { size, first, categories } = from
  const elements = Array.from({ length: size }, (_, index) => `=${categories?.[index] ?? index + first}`)
  return { step: { kind: 'map', apply: (data) => data }, gives: { kind: 'flags', elements } }
}
