import { createReadStream } from 'node:fs'
import { PassThrough, pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { MeshError } from '@spillway/core'
import { parse } from 'csv-parse'
import { listed } from '../refusal.ts'
import type { TableRow } from './lookup-table.ts'
import type { PlannedLookup } from './plan.ts'

/** More in one line is no table. */
const maxRecordCharacters = 1_000_000

/** The columns that a lookup reads, by place. */
interface Wanted {
  readonly key: readonly string[]
  readonly values: readonly string[]
}

/**
 * Rows of a CSV file with a header, or of JSON lines (`.ndjson`, `.jsonl`); either may end in `.gz`.
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section, the message naming file and line
 */
export async function* tableRows(lookup: PlannedLookup, path: string, signal: AbortSignal): AsyncGenerator<TableRow> {
  const { keyFields, values, timeColumn, title } = lookup
  const wanted = { key: keyFields, values: [...values.map(({ name }) => name), ...(timeColumn === undefined ? [] : [timeColumn])] }
  const refuse = (message: string, line?: number): MeshError =>
    new MeshError('INVALID_ARGUMENT', `${path}${line === undefined ? '' : `:${line}`}: ${message}`, { field: `lookups.${title}.file` })
  const plain = path.replace(/\.gz$/i, '')
  const isLines = /\.(ndjson|jsonl)$/i.test(plain)
  if (!isLines && !/\.csv$/i.test(plain))
    throw refuse('a table file is called .csv, .ndjson or .jsonl, each with .gz behind it where it is compressed')
  const last = isLines
    ? new PassThrough({ encoding: 'utf8' })
    : parse({ bom: true, info: true, skip_empty_lines: true, max_record_size: maxRecordCharacters })
  const streams = [createReadStream(path, { signal }), ...(plain === path ? [] : [createGunzip()]), last]
  // What fails on the way fails the reading of the last; who stops reading that closes the file.
  pipeline(streams, () => undefined)
  try {
    yield* isLines ? jsonRows(last, wanted, refuse) : csvRows(last, wanted, refuse)
  } catch (thrown) {
    throw thrown instanceof MeshError ? thrown : unreadable(thrown, refuse)
  }
}

type Refuse = (message: string, line?: number) => MeshError

function unreadable(thrown: unknown, refuse: Refuse): MeshError {
  const { code, message } = thrown as NodeJS.ErrnoException
  if (code === 'ENOENT') return refuse('there is no such file')
  if (code === 'EISDIR') return refuse('this is a folder, not a file')
  return refuse(`it cannot be read: ${message}`)
}

async function* csvRows(parser: AsyncIterable<unknown>, wanted: Wanted, refuse: Refuse): AsyncGenerator<TableRow> {
  let places: { key: readonly number[]; values: readonly number[] } | undefined
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      if (places === undefined) {
        const place = (name: string): number => {
          const at = record.indexOf(name)
          if (at < 0) throw refuse(`there is no column "${name}": the header has ${listed(record)}`, info.lines)
          if (record.includes(name, at + 1)) throw refuse(`the header has "${name}" twice`, info.lines)
          return at
        }
        places = { key: wanted.key.map(place), values: wanted.values.map(place) }
      } else yield { line: info.lines, key: places.key.map((at) => record[at]), values: places.values.map((at) => record[at]) }
    }
  } catch (thrown) {
    const { code, message, lines } = thrown as Error & { code?: string; lines?: number }
    throw code?.startsWith('CSV_') === true ? refuse(`this is no CSV: ${message}`, lines) : thrown
  }
  if (places === undefined) throw refuse(`it is empty: a header with ${listed([...wanted.key, ...wanted.values])} is expected`)
}

async function* jsonRows(chunks: AsyncIterable<unknown>, wanted: Wanted, refuse: Refuse): AsyncGenerator<TableRow> {
  let line = 0
  let rows = 0
  const seen = new Set<string>()
  for await (const text of lines(chunks as AsyncIterable<string>, (at) =>
    refuse(`the line is longer than ${maxRecordCharacters} characters`, at),
  )) {
    line++
    // Spaces, and a byte order mark.
    const json = text.trim()
    if (json === '') continue
    rows++
    const row = objectOf(json, line, refuse)
    for (const name of wanted.values) if (Object.hasOwn(row, name)) seen.add(name)
    yield { line, key: wanted.key.map((name) => row[name]), values: wanted.values.map((name) => row[name]) }
  }
  // A value may be missing here and there; one that no line has is another name.
  const absent = rows === 0 ? undefined : wanted.values.find((name) => !seen.has(name))
  if (absent !== undefined) throw refuse(`no line has "${absent}"`)
}

async function* lines(text: AsyncIterable<string>, tooLong: (line: number) => MeshError): AsyncGenerator<string> {
  let rest = ''
  let line = 1
  for await (const chunk of text) {
    const parts = (rest + chunk).split('\n')
    rest = parts.pop()!
    yield* parts
    line += parts.length
    if (rest.length > maxRecordCharacters) throw tooLong(line)
  }
  yield rest
}

function objectOf(json: string, line: number, refuse: Refuse): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (thrown) {
    throw refuse(`this is no JSON: ${(thrown as Error).message}`, line)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse('a JSON object is expected in each line', line)
  return value as Readonly<Record<string, unknown>>
}
