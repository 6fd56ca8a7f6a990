import { ParquetTableWriter } from './parquet-writer.ts'
import type { TableFormat, TableSchema, TableWriter } from './table.ts'
import { csvWriter, ndjsonWriter } from './text-writer.ts'

/** Begins a table file; it appears at `path` when it is finished. */
export function tableWriter(path: string, format: TableFormat, schema: TableSchema): TableWriter {
  switch (format) {
    case 'parquet':
      return new ParquetTableWriter(path, schema)
    case 'csv':
      return csvWriter(path, schema)
    case 'ndjson':
      return ndjsonWriter(path, schema)
    default:
      return format satisfies never
  }
}
