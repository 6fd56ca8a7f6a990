import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { FinalFile } from './final-file.ts'
import type { TableColumn, TableSchema } from './table.ts'

/** What is written beside a finished table: its columns, and what Parquet files say in their own metadata. */
export interface TableDescription {
  readonly rows: number
  readonly columns: readonly TableColumn[]
  readonly metadata: Readonly<Record<string, string>>
}

/** `<file>.json`; `_table.json` in a folder of parts. */
export function descriptionPath(table: string): string {
  return existsSync(table) && statSync(table).isDirectory() ? join(table, '_table.json') : `${table}.json`
}

export function writeDescription(table: string, schema: TableSchema, rows: number): void {
  const description: TableDescription = { rows, ...schema }
  const file = new FinalFile(descriptionPath(table))
  file.append(Buffer.from(`${JSON.stringify(description, null, 2)}\n`))
  file.finish()
}
