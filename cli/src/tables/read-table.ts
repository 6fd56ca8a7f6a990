import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { openParquet } from './parquet-source.ts'
import { formatOfName } from './table.ts'
import { descriptionPath, type TableDescription } from './description.ts'
import type { ReadRows, TableSource, WantedColumns } from './table-source.ts'
import { openCsv, openNdjson } from './text-source.ts'

/** A table of one file, or of a folder's part files. */
export class Table {
  readonly path: string
  readonly files: readonly TableSource[]

  constructor(path: string, files: readonly TableSource[]) {
    this.path = path
    this.files = files
  }

  get columns(): readonly string[] {
    return this.files[0]!.columns
  }

  get metadata(): Readonly<Record<string, string>> {
    return this.files[0]!.metadata
  }

  /** File by file, in the order of their names. */
  async *read(wanted: WantedColumns): AsyncGenerator<ReadRows> {
    for (const file of this.files) yield* file.read(wanted)
  }
}

/** @throws MeshError NOT_FOUND, INVALID_ARGUMENT where there is no table, or its files have different columns */
export async function openTable(path: string): Promise<Table> {
  if (!existsSync(path)) throw new MeshError('NOT_FOUND', `${path}: there is no such file or folder`)
  const files: TableSource[] = []
  for (const file of tableFiles(path)) files.push(await openFile(file, path))
  const [first] = files
  for (const file of files)
    if (file.columns.join('\n') !== first!.columns.join('\n'))
      throw new MeshError(
        'INVALID_ARGUMENT',
        `${file.path}: has other columns than ${first!.path}: a folder holds the parts of one table (export them apart)`,
      )
  return new Table(path, files)
}

function tableFiles(path: string): readonly string[] {
  if (!statSync(path).isDirectory()) return [path]
  const names = readdirSync(path).filter((name) => /^part-.*\.(parquet|csv|ndjson|jsonl)$/.test(name))
  if (names.length === 0) throw new MeshError('INVALID_ARGUMENT', `${path}: holds no part files, as part-00001.parquet`)
  return names.sort().map((name) => join(path, name))
}

function openFile(file: string, table: string): Promise<TableSource> {
  const format = formatOfName(file)
  switch (format) {
    case 'parquet':
      return openParquet(file)
    case 'csv':
      return openCsv(file, describedMetadata(table))
    case 'ndjson':
      return openNdjson(file, describedMetadata(table))
    case undefined:
      throw new MeshError('INVALID_ARGUMENT', `${file}: expected a name that ends in .parquet, .csv or .ndjson`)
    default:
      return format satisfies never
  }
}

/** Text files say nothing of themselves: what was written beside them does. */
function describedMetadata(table: string): Readonly<Record<string, string>> {
  const path = descriptionPath(table)
  if (!existsSync(path)) return {}
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as TableDescription).metadata
  } catch (thrown) {
    throw new MeshError('INVALID_ARGUMENT', `${path}: is no description of a table: ${(thrown as Error).message}`, { cause: thrown })
  }
}
