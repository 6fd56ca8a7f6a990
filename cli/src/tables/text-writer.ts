import { stringify } from 'csv-stringify/sync'
import { FinalFile } from './final-file.ts'
import type { TableRows, TableSchema, TableWriter } from './table.ts'
import { csvText, jsonValue } from './text-value.ts'

/** A table as one text file: what `format` makes of each batch, behind `head`. */
class TextTableWriter implements TableWriter {
  private readonly file: FinalFile
  private readonly format: (rows: TableRows) => string

  constructor(path: string, head: string, format: (rows: TableRows) => string) {
    this.file = new FinalFile(path)
    this.format = format
    this.file.append(Buffer.from(head))
  }

  write(rows: TableRows): Promise<void> {
    this.file.append(Buffer.from(this.format(rows)))
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

/** A line of names, then one a row: RFC 4180, but that lines end as on Unix. */
export function csvWriter(path: string, { columns }: TableSchema): TableWriter {
  const head = stringify([columns.map(({ name }) => name)])
  return new TextTableWriter(path, head, (rows) =>
    stringify(
      Array.from({ length: rows.rowCount }, (_, row) => columns.map(({ kind }, index) => csvText(kind, rows.columns[index]!, row))),
    ),
  )
}

/** One JSON object a line (https://github.com/ndjson/ndjson-spec). */
export function ndjsonWriter(path: string, { columns }: TableSchema): TableWriter {
  return new TextTableWriter(path, '', (rows) => {
    let text = ''
    for (let row = 0; row < rows.rowCount; row++) {
      const entries = columns.map(({ name, kind }, index) => [name, jsonValue(kind, rows.columns[index]!, row)])
      text += `${JSON.stringify(Object.fromEntries(entries))}\n`
    }
    return text
  })
}
