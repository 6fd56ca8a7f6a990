import { z } from 'zod'
import { wrong } from '../refusal.ts'
import { ByteVocabulary } from './byte-vocabulary.ts'
import type { ColumnData } from './column-data.ts'
import { needs, type StepCompilers, type StepContext } from './step.ts'
import { TermReader } from './terms.ts'
import type { TextColumn } from './text-column.ts'

interface TermStatistics {
  readonly terms: readonly string[]
  /** One a term. */
  readonly idf: readonly number[]
}

export const textVectorSteps: StepCompilers<'ngrams' | 'tfidf'> = {
  ngrams(setting, from, context) {
    needs(from, ['text'], context, 'ngrams')
    const { buckets, weight } = setting
    const reader = new TermReader(setting)
    const apply = (data: ColumnData): ColumnData => {
      const { strings } = data.values as TextColumn
      const values = new Float64Array(strings.length * buckets)
      strings.forEach((text, row) => {
        reader.readHashes(text, (hash) => {
          const at = row * buckets + (hash % buckets)
          values[at] = weight === 'binary' ? 1 : values[at]! + 1
        })
      })
      return { kind: 'vector', values, width: buckets }
    }
    const elements = Array.from({ length: buckets }, (_, bucket) => `[${bucket}]`)
    return { step: { kind: 'map', apply }, gives: { kind: 'vector', elements } }
  },
  tfidf(setting, from, context) {
    needs(from, ['text'], context, 'tfidf')
    const reader = new TermReader(setting)
    const { terms: known, idf } = context.fitted<TermStatistics>({
      schema: z
        .strictObject({ terms: z.array(z.string()).min(1), idf: z.array(z.number()) })
        .refine((fitted) => fitted.terms.length === fitted.idf.length, 'one idf a term'),
      unfitted: { terms: [''], idf: [1] },
      fit: (data) => termStatistics((data.values as TextColumn).strings, reader, setting, context),
    })
    const vocabulary = new ByteVocabulary(known)
    const weights = Float64Array.from(idf)
    const apply = (data: ColumnData): ColumnData => {
      const { strings } = data.values as TextColumn
      const values = new Float64Array(strings.length * weights.length)
      const terms = reader.readAll(strings)
      const numbers = vocabulary.findAll(terms.texts, -1, new Int32Array(terms.texts.rowCount))
      for (let at = 0; at < numbers.length; at++) {
        const place = terms.rows[at]! * weights.length + numbers[at]!
        if (numbers[at]! >= 0) values[place] = values[place]! + 1
      }
      for (let row = 0; row < strings.length; row++) weigh(values.subarray(row * weights.length, (row + 1) * weights.length), weights)
      return { kind: 'vector', values, width: weights.length }
    }
    return { step: { kind: 'map', apply }, gives: { kind: 'vector', elements: known.map((term) => `=${term}`) } }
  },
}

/** Counts times idf, scaled to Euclidean length 1 (none for a row without terms). */
function weigh(row: Float64Array, idf: Float64Array): void {
  let squares = 0
  for (let term = 0; term < row.length; term++) {
    const weight = row[term]! * idf[term]!
    row[term] = weight
    squares += weight * weight
  }
  if (squares === 0) return
  const length = Math.sqrt(squares)
  for (let term = 0; term < row.length; term++) row[term] = row[term]! / length
}

/**
 * idf(t) = ln((1 + n) / (1 + df(t))) + 1 over n texts, of the `size` terms that are there most often; as scikit-learn's TfidfVectorizer with its
 * defaults (smooth_idf, norm l2): https://scikit-learn.org/stable/modules/feature_extraction.html#tfidf-term-weighting. Rows without text do not count.
 */
function termStatistics(
  texts: readonly string[],
  reader: TermReader,
  { size, atLeast }: { readonly size: number; readonly atLeast: number },
  context: StepContext,
): TermStatistics {
  const counts = new Map<string, { times: number; texts: number; last: number }>()
  let documents = 0
  texts.forEach((text, row) => {
    if (text === '') return
    documents++
    reader.read(text, (bytes, from, to) => {
      const term = Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('utf8')
      const seen = counts.get(term)
      if (seen === undefined) counts.set(term, { times: 1, texts: 1, last: row })
      else {
        seen.times++
        if (seen.last !== row) seen.texts++
        seen.last = row
      }
    })
  })
  const kept = [...counts]
    .filter(([, { texts: inTexts }]) => inTexts >= atLeast)
    .sort(([a, first], [b, second]) => second.times - first.times || (a < b ? -1 : 1))
    .slice(0, size)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  if (kept.length === 0)
    throw wrong(
      context.at,
      documents === 0
        ? `none of the ${texts.length} rows to fit it on has a value of column "${context.columnName}"`
        : `no term of column "${context.columnName}" is in ${atLeast} texts: lower atLeast`,
    )
  return {
    terms: kept.map(([term]) => term),
    idf: kept.map(([, { texts: inTexts }]) => Math.log((1 + documents) / (1 + inTexts)) + 1),
  }
}
