import type { LookupType } from './definition.ts'

const largestFp32 = 3.4028234663852886e38
const largestTimeMs = 8.64e15

/** What is wrong with a value: text that goes behind its name, as in `is "abc": a number is expected`. */
export class WrongValue {
  readonly message: string

  constructor(raw: unknown, expected: string) {
    const shown = typeof raw === 'bigint' ? String(raw) : (JSON.stringify(raw) ?? String(raw))
    this.message = `is ${shown.length > 60 ? `${shown.slice(0, 60)}…` : shown}: ${expected} is expected`
  }
}

export type ReadValue = number | string | ArrayLike<number> | undefined | WrongValue

/**
 * A value as a table or a server holds it (text, number, boolean, list, null), as the declared type: a number (booleans 0 and 1, timestamps ms), text, or the
 * numbers of a vector; undefined where it is missing (null, or empty text).
 */
export function readValue(raw: unknown, type: LookupType): ReadValue {
  if (raw === null || raw === undefined || raw === '') return undefined
  if (typeof type !== 'string') return readVector(raw, type.vector)
  switch (type) {
    case 'string':
      return typeof raw === 'string' ? raw : new WrongValue(raw, 'text')
    case 'number': {
      const value = numberOf(raw)
      return Math.abs(value) <= largestFp32 ? value : new WrongValue(raw, `a number within ±${largestFp32} (FP32)`)
    }
    case 'integer': {
      const value = numberOf(raw)
      return Number.isSafeInteger(value) ? value : new WrongValue(raw, 'an integer within ±9007199254740991')
    }
    case 'boolean':
      return booleanOf(raw) ?? new WrongValue(raw, 'true or false')
    case 'timestamp': {
      const value = timeOf(raw)
      return Number.isNaN(value) ? new WrongValue(raw, 'an RFC 3339 time, as 2018-04-01T00:00:31Z, or ms since the epoch') : value
    }
    default:
      return type satisfies never
  }
}

const numeral = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

function numberOf(raw: unknown): number {
  if (typeof raw === 'number') return raw
  if (typeof raw === 'bigint') return Number(raw)
  if (typeof raw !== 'string') return NaN
  const text = raw.trim()
  return numeral.test(text) ? Number(text) : NaN
}

function booleanOf(raw: unknown): number | undefined {
  if (typeof raw === 'boolean') return Number(raw)
  switch (typeof raw === 'string' ? raw.trim().toLowerCase() : Number(raw)) {
    case 'true':
    case '1':
    case 1:
      return 1
    case 'false':
    case '0':
    case 0:
      return 0
    default:
      return undefined
  }
}

const rfc3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/

function timeOf(raw: unknown): number {
  const value = typeof raw === 'string' && rfc3339.test(raw.trim()) ? Date.parse(raw.trim().replace(' ', 'T')) : numberOf(raw)
  return Math.abs(value) <= largestTimeMs ? value : NaN
}

function readVector(raw: unknown, width: number): ReadValue {
  const elements = elementsOf(raw)
  if (elements === undefined)
    return new WrongValue(raw, `a vector of ${width} numbers (a JSON list, or numbers with commas or spaces between)`)
  if (elements.length !== width) return new WrongValue(raw, `a vector of ${width} numbers, not of ${elements.length},`)
  const vector = new Float64Array(width)
  for (let i = 0; i < width; i++) {
    const value = numberOf(elements[i])
    if (!(Math.abs(value) <= largestFp32))
      return new WrongValue(elements[i], `a number within ±${largestFp32} (FP32) as the vector's element ${i}`)
    vector[i] = value
  }
  return vector
}

function elementsOf(raw: unknown): readonly unknown[] | undefined {
  if (Array.isArray(raw)) return raw as readonly unknown[]
  if (typeof raw !== 'string') return undefined
  const text = raw.trim()
  if (!text.startsWith('[')) return text.split(/\s*[,;\s]\s*/)
  try {
    return JSON.parse(text) as readonly unknown[]
  } catch {
    // What is no JSON is no vector: the caller says what is expected.
    return undefined
  }
}
