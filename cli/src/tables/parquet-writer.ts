import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import type { SchemaElement } from 'hyparquet'
import { FinalFile } from './final-file.ts'
import type { ColumnKind, ColumnValues, TableColumn, TableRows, TableSchema, TableWriter } from './table.ts'

/** Rows of a row group, and what its texts may take: a writer holds one row group at a time. */
const rowGroupRows = 65_536
const rowGroupTextBytes = 32 << 20

/** Apache Parquet, parquet.thrift: a column's physical type, and what it stands for. */
const elements: Readonly<Record<ColumnKind, Omit<SchemaElement, 'name'>>> = {
  string: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  int64: { type: 'INT64' },
  double: { type: 'DOUBLE' },
  float: { type: 'FLOAT' },
  boolean: { type: 'BOOLEAN' },
  timestamp: { type: 'INT64', converted_type: 'TIMESTAMP_MILLIS' },
}

function schemaElements(columns: readonly TableColumn[]): SchemaElement[] {
  const own = columns.map(({ name, kind, nullable }): SchemaElement => {
    const mayBeNull = nullable && kind !== 'double' && kind !== 'float'
    return { name, ...elements[kind], repetition_type: mayBeNull ? 'OPTIONAL' : 'REQUIRED' }
  })
  return [{ name: 'root', num_children: columns.length }, ...own]
}

/** A table as one Parquet file, a row group at a time (Snappy). An absent float is NaN, any other absent value null. */
export class ParquetTableWriter implements TableWriter {
  private readonly schema: TableSchema
  private readonly file: FinalFile
  private readonly bytes = new ByteWriter(1 << 20)
  private readonly parquet: ParquetWriter
  private waiting: TableRows[] = []
  private waitingRows = 0
  private waitingTextBytes = 0

  constructor(path: string, schema: TableSchema) {
    this.schema = schema
    this.file = new FinalFile(path)
    const kvMetadata = Object.entries(schema.metadata).map(([key, value]) => ({ key, value }))
    this.parquet = new ParquetWriter({
      writer: this.bytes,
      schema: schemaElements(schema.columns),
      kvMetadata,
      createdBy: 'spillway (hyparquet-writer)',
    })
  }

  write(rows: TableRows): Promise<void> {
    this.waiting.push(rows)
    this.waitingRows += rows.rowCount
    this.schema.columns.forEach(({ kind }, index) => {
      if (kind !== 'string') return
      for (const text of rows.columns[index]! as readonly (string | null)[]) this.waitingTextBytes += text?.length ?? 0
    })
    if (this.waitingRows >= rowGroupRows || this.waitingTextBytes >= rowGroupTextBytes) this.writeGroup()
    return Promise.resolve()
  }

  finish(): Promise<void> {
    this.writeGroup()
    void this.parquet.finish()
    this.flush()
    this.file.finish()
    return Promise.resolve()
  }

  abandon(): Promise<void> {
    this.file.abandon()
    return Promise.resolve()
  }

  private writeGroup(): void {
    if (this.waitingRows === 0) return
    const columnData = this.schema.columns.map((column, index) => ({
      name: column.name,
      data: joined(
        column,
        this.waiting.map((rows) => rows.columns[index]!),
        this.waitingRows,
      ),
    }))
    void this.parquet.write({ columnData, rowGroupSize: this.waitingRows })
    this.waiting = []
    this.waitingRows = 0
    this.waitingTextBytes = 0
    this.flush()
  }

  private flush(): void {
    this.file.append(this.bytes.getBytes())
    this.bytes.index = 0
  }
}

type ParquetValues = Float64Array | Float32Array | BigInt64Array | (string | boolean | bigint | null)[]

function joined({ kind, nullable }: TableColumn, parts: readonly ColumnValues[], rowCount: number): ParquetValues {
  if (kind === 'float') return floats(new Float32Array(rowCount), parts as readonly Float32Array[])
  if (kind === 'double') return floats(new Float64Array(rowCount), parts as readonly Float64Array[])
  if (kind === 'timestamp') return times(parts as readonly Float64Array[], nullable)
  if (kind === 'int64' && !nullable) {
    const all = new BigInt64Array(rowCount)
    let end = 0
    for (const part of parts as readonly BigInt64Array[]) {
      all.set(part, end)
      end += part.length
    }
    return all
  }
  return (parts as readonly (readonly (string | boolean | bigint | null)[])[]).flatMap((part) => Array.from(part))
}

function floats<T extends Float32Array | Float64Array>(all: T, parts: readonly T[]): T {
  let end = 0
  for (const part of parts) {
    all.set(part, end)
    end += part.length
  }
  return all
}

function times(parts: readonly Float64Array[], nullable: boolean): BigInt64Array | (bigint | null)[] {
  const all = parts.flatMap((part) => Array.from(part, (timeMs) => (Number.isNaN(timeMs) ? null : BigInt(Math.round(timeMs)))))
  return nullable ? all : BigInt64Array.from(all as bigint[])
}
