import { createReadStream } from 'node:fs'
import { MeshError } from '@spillway/core'
import { CsvError, parse } from 'csv-parse'
import { asNumber, asText, type ReadRows, type TableSource, type WantedColumns } from './table-source.ts'

const batchRows = 8192

/** A CSV file (RFC 4180) whose first line names the columns. @throws MeshError INVALID_ARGUMENT */
export async function openCsv(path: string, metadata: Readonly<Record<string, string>>): Promise<TableSource> {
  const columns = await firstRecord(path)
  return { path, columns, metadata, read: (wanted) => inBatches(wanted, columns, csvRecords(path)) }
}

async function firstRecord(path: string): Promise<readonly string[]> {
  for await (const record of parsed(path, { to: 1 })) return record
  throw new MeshError('INVALID_ARGUMENT', `${path}: has no first line that names its columns`)
}

async function* parsed(path: string, range: { readonly from?: number; readonly to?: number }): AsyncGenerator<readonly string[]> {
  try {
    for await (const record of createReadStream(path).pipe(parse({ bom: true, ...range }))) yield record as readonly string[]
  } catch (thrown) {
    if (thrown instanceof CsvError) throw new MeshError('INVALID_ARGUMENT', `${path}: ${thrown.message}`, { cause: thrown })
    throw thrown
  }
}

function csvRecords(path: string): AsyncIterable<readonly unknown[]> {
  return parsed(path, { from: 2 })
}

/** A file of one JSON object a line; its first one names the columns. @throws MeshError INVALID_ARGUMENT */
export async function openNdjson(path: string, metadata: Readonly<Record<string, string>>): Promise<TableSource> {
  const columns: string[] = []
  for await (const object of objects(path)) {
    columns.push(...Object.keys(object))
    break
  }
  return { path, columns, metadata, read: (wanted) => inBatches(wanted, columns, ndjsonRecords(path, columns)) }
}

async function* objects(path: string): AsyncGenerator<Readonly<Record<string, unknown>>> {
  let line = 0
  for await (const text of lines(path)) {
    line++
    if (text.trim() === '') continue
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch (thrown) {
      throw new MeshError('INVALID_ARGUMENT', `${path}:${line}: is no JSON: ${(thrown as Error).message}`, { cause: thrown })
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new MeshError('INVALID_ARGUMENT', `${path}:${line}: expected a JSON object`)
    yield value as Readonly<Record<string, unknown>>
  }
}

/** A line ends at a line feed alone: node:readline takes U+2028 and U+2029 for ends too, which JSON allows within a string. */
async function* lines(path: string): AsyncGenerator<string> {
  let rest: Buffer[] = []
  for await (const chunk of createReadStream(path)) {
    const bytes = chunk as Buffer
    let start = 0
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      yield Buffer.concat([...rest, bytes.subarray(start, end)]).toString()
      rest = []
      start = end + 1
    }
    if (start < bytes.length) rest.push(bytes.subarray(start))
  }
  if (rest.length > 0) yield Buffer.concat(rest).toString()
}

async function* ndjsonRecords(path: string, columns: readonly string[]): AsyncGenerator<readonly unknown[]> {
  for await (const object of objects(path)) yield columns.map((name) => object[name])
}

async function* inBatches(
  wanted: WantedColumns,
  columns: readonly string[],
  records: AsyncIterable<readonly unknown[]>,
): AsyncGenerator<ReadRows> {
  const places = (names: readonly string[]): readonly (readonly [string, number])[] =>
    names.map((name) => [name, columns.indexOf(name)] as const).filter(([, at]) => at >= 0)
  const texts = places(wanted.texts)
  const numbers = places(wanted.numbers)
  let batch: (readonly unknown[])[] = []
  const rows = (): ReadRows => ({
    rowCount: batch.length,
    texts: new Map(texts.map(([name, at]) => [name, batch.map((record) => asText(record[at]))])),
    numbers: new Map(numbers.map(([name, at]) => [name, Float64Array.from(batch, (record) => asNumber(record[at]))])),
  })
  for await (const record of records) {
    batch.push(record)
    if (batch.length < batchRows) continue
    yield rows()
    batch = []
  }
  if (batch.length > 0) yield rows()
}
