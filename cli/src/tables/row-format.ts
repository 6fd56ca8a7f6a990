import { type BytesColumn, bytesCount } from '@spillway/core'
import { writeDescription } from './description.ts'
import { FinalFile } from './final-file.ts'
import { concatenate, joinTables } from './join-parts.ts'
import type { RowWriter, TableFormat, TableRows, TableSchema } from './table.ts'
import { tableWriter } from './write-table.ts'

/** How rows of one kind become files. */
export interface RowFormat<Rows> {
  /** Of a file's name, without the dot. */
  readonly extension: string
  count(rows: Rows): number
  open(path: string): RowWriter<Rows>
  /** Makes one file of part files, in their order. Parts stay. */
  join(parts: readonly string[], path: string): Promise<void>
  /** Writes beside a finished file or folder what readers need to know of it. */
  describe(path: string, rowCount: number): void
}

/** Typed columns as Parquet, CSV or NDJSON. */
export function tableRowFormat(format: TableFormat, schema: TableSchema): RowFormat<TableRows> {
  return {
    extension: format,
    count: (rows) => rows.rowCount,
    open: (path) => tableWriter(path, format, schema),
    join: (parts, path) => joinTables(parts, path, format, schema),
    describe: (path, rowCount) => writeDescription(path, schema, rowCount),
  }
}

const lineFeed = Uint8Array.of(10)

/** Texts as they are, one a line. */
export function lineFormat(extension: string): RowFormat<BytesColumn> {
  return {
    extension,
    count: (lines) => bytesCount(lines),
    open: (path) => new LineWriter(path),
    join: (parts, path) => Promise.resolve(concatenate(parts, path, false)),
    describe: () => undefined,
  }
}

class LineWriter implements RowWriter<BytesColumn> {
  private readonly file: FinalFile

  constructor(path: string) {
    this.file = new FinalFile(path)
  }

  write({ bytes, offsets }: BytesColumn): Promise<void> {
    const parts: Uint8Array[] = []
    for (let line = 0; line + 1 < offsets.length; line++) parts.push(bytes.subarray(offsets[line], offsets[line + 1]), lineFeed)
    this.file.append(Buffer.concat(parts))
    return Promise.resolve()
  }

  finish(): Promise<void> {
    this.file.finish()
    return Promise.resolve()
  }

  abandon(): Promise<void> {
    this.file.abandon()
    return Promise.resolve()
  }
}
