import { closeSync, openSync, readSync } from 'node:fs'
import { FinalFile } from './final-file.ts'
import { scanOf } from './parquet-source.ts'
import { asNumber } from './table-source.ts'
import type { ColumnKind, ColumnValues, TableFormat, TableSchema } from './table.ts'
import { tableWriter } from './write-table.ts'

/** Makes one file of part files that were written with the same schema, in their order. Parts stay. */
export async function joinTables(parts: readonly string[], path: string, format: TableFormat, schema: TableSchema): Promise<void> {
  if (format === 'parquet') return joinParquet(parts, path, schema)
  if (parts.length === 0) return tableWriter(path, format, schema).finish()
  concatenate(parts, path, format === 'csv')
}

/** @param headed whether each part begins with a line that names the columns */
export function concatenate(parts: readonly string[], path: string, headed: boolean): void {
  const file = new FinalFile(path)
  parts.forEach((part, index) => copyInto(file, part, headed && index > 0))
  file.finish()
}

async function joinParquet(parts: readonly string[], path: string, schema: TableSchema): Promise<void> {
  const writer = tableWriter(path, 'parquet', schema)
  for (const part of parts) {
    const scan = await scanOf(part)
    for (const { rowStart, rowEnd } of scan.ranges) {
      const columns: ColumnValues[] = []
      for (const { name, kind } of schema.columns) columns.push(asWritten(kind, await scan.readColumn({ column: name, rowStart, rowEnd })))
      await writer.write({ rowCount: rowEnd - rowStart, columns })
    }
  }
  await writer.finish()
}

/** What the reader gives as what the writer takes. */
function asWritten(kind: ColumnKind, values: ArrayLike<unknown>): ColumnValues {
  if (kind === 'float') return values instanceof Float32Array ? values : Float32Array.from(values, asNumber)
  if (kind === 'double' || kind === 'timestamp') return values instanceof Float64Array ? values : Float64Array.from(values, asNumber)
  if (values instanceof BigInt64Array) return values
  return Array.from(values, (value) => value ?? null) as ColumnValues
}

const chunkBytes = 1 << 20

/** @param headless without the part's first line, which names the columns: no name has a line feed in it */
function copyInto(file: FinalFile, part: string, headless: boolean): void {
  const descriptor = openSync(part, 'r')
  try {
    const chunk = new Uint8Array(chunkBytes)
    let skipping = headless
    for (let read = readSync(descriptor, chunk); read > 0; read = readSync(descriptor, chunk)) {
      let bytes = chunk.subarray(0, read)
      if (skipping) {
        const end = bytes.indexOf(10)
        if (end === -1) continue
        bytes = bytes.subarray(end + 1)
        skipping = false
      }
      file.append(bytes)
    }
  } finally {
    closeSync(descriptor)
  }
}
