import { MeshError } from '@spillway/core'
import { asyncBufferFromFile, type DecodedArray, parquetMetadataAsync, parquetScan, parquetSchema } from 'hyparquet'
import { asNumber, asText, type ReadRows, type TableSource, type WantedColumns } from './table-source.ts'

/** A Parquet file. A row group is read at a time, only the columns that are asked for. @throws MeshError INVALID_ARGUMENT */
export async function openParquet(path: string): Promise<TableSource> {
  try {
    const file = await asyncBufferFromFile(path)
    const metadata = await parquetMetadataAsync(file)
    const columns = parquetSchema(metadata).children.map(({ element }) => element.name)
    const said = metadata.key_value_metadata ?? []
    return {
      path,
      columns,
      metadata: Object.fromEntries(said.map(({ key, value }) => [key, value ?? ''])),
      read: (wanted) => read(path, known(wanted, columns)),
    }
  } catch (thrown) {
    throw unreadable(path, thrown)
  }
}

function known({ texts, numbers }: WantedColumns, columns: readonly string[]): WantedColumns {
  const has = (name: string): boolean => columns.includes(name)
  return { texts: texts.filter(has), numbers: numbers.filter(has) }
}

async function* read(path: string, wanted: WantedColumns): AsyncGenerator<ReadRows> {
  const scan = await scanOf(path)
  for (const { rowStart, rowEnd } of scan.ranges) {
    const column = async (name: string): Promise<DecodedArray> => {
      try {
        return await scan.readColumn({ column: name, rowStart, rowEnd })
      } catch (thrown) {
        throw unreadable(path, thrown)
      }
    }
    const texts = new Map<string, readonly string[]>()
    const numbers = new Map<string, Float64Array>()
    for (const name of wanted.texts) texts.set(name, Array.from(await column(name), asText))
    for (const name of wanted.numbers) numbers.set(name, floats(await column(name)))
    yield { rowCount: rowEnd - rowStart, texts, numbers }
  }
}

type Scan = Awaited<ReturnType<typeof parquetScan>>

/** A file's rows, range by range, each column as the library decodes it. @throws MeshError INVALID_ARGUMENT */
export async function scanOf(path: string): Promise<Scan> {
  try {
    return await parquetScan({ file: await asyncBufferFromFile(path) })
  } catch (thrown) {
    throw unreadable(path, thrown)
  }
}

function floats(values: DecodedArray): Float64Array {
  return values instanceof Float32Array || values instanceof Float64Array ? Float64Array.from(values) : Float64Array.from(values, asNumber)
}

function unreadable(path: string, thrown: unknown): MeshError {
  return new MeshError('INVALID_ARGUMENT', `${path}: cannot be read as Parquet: ${(thrown as Error).message}`, { cause: thrown })
}
