import { existsSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { writeDescription } from '../tables/description.ts'
import { joinParts } from '../tables/join-parts.ts'
import { PartFiles, partPaths } from '../tables/part-files.ts'
import { formatOfName, type TableFormat, type TableRows, type TableSchema, type TableWriter } from '../tables/table.ts'
import { tableWriter } from '../tables/write-table.ts'

/** Where a batch run's rows go: one file, or a folder of part files. */
export interface RowTarget {
  readonly path: string
  readonly kind: 'file' | 'folder'
  readonly format: TableFormat
}

/**
 * A name with a known extension is a file, any other a folder of part files.
 * @param format `--format`; the extension's where absent, Parquet for a folder
 * @throws MeshError INVALID_ARGUMENT where name and format contradict each other
 */
export function rowTarget(path: string, format: TableFormat | undefined): RowTarget {
  const named = formatOfName(path)
  const isFolder = named === undefined || (existsSync(path) && statSync(path).isDirectory())
  if (isFolder) return { path, kind: 'folder', format: format ?? 'parquet' }
  if (format !== undefined && format !== named)
    throw new MeshError('INVALID_ARGUMENT', `--out ${path} is a ${named} file by its name, --format says ${format}`, { field: '--format' })
  return { path, kind: 'file', format: named }
}

/** Takes rows between checkpoints, as `ReplaySink` describes them, and puts them at their place at the end. */
export interface RowOutput {
  resume(checkpoint: number): void
  write(rows: TableRows): Promise<void>
  flush(checkpoint: number): Promise<void>
  /** After the last checkpoint. @param rowCount of the whole table */
  finish(rowCount: number): Promise<void>
  /** Takes back what no checkpoint holds. */
  abandon(): Promise<void>
}

/** @param partsFolder where parts of a single file wait until it is made of them; without one, the file is written as the rows come, in one run or not at all */
export function rowOutput(target: RowTarget, schema: TableSchema, partsFolder: string | undefined): RowOutput {
  if (target.kind === 'folder') return new FolderOutput(target, schema)
  return partsFolder === undefined ? new FileOutput(target, schema) : new JoinedOutput(target, schema, partsFolder)
}

/** @throws MeshError FAILED_PRECONDITION where a run that begins would mix its rows with another's */
export function checkUnused({ path, kind }: RowTarget): void {
  if (kind === 'folder' && partPaths(path).length > 0)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `${path} holds part files of another run: give this one a folder of its own, or delete them`,
      {
        field: '--out',
      },
    )
}

class FolderOutput implements RowOutput {
  private readonly target: RowTarget
  private readonly schema: TableSchema
  private readonly parts: PartFiles

  constructor(target: RowTarget, schema: TableSchema) {
    this.target = target
    this.schema = schema
    this.parts = new PartFiles(target.path, target.format, schema)
  }

  resume(checkpoint: number): void {
    this.parts.resume(checkpoint)
  }

  write(rows: TableRows): Promise<void> {
    return this.parts.write(rows)
  }

  flush(checkpoint: number): Promise<void> {
    return this.parts.flush(checkpoint)
  }

  finish(rowCount: number): Promise<void> {
    writeDescription(this.target.path, this.schema, rowCount)
    return Promise.resolve()
  }

  abandon(): Promise<void> {
    return this.parts.abandon()
  }
}

class JoinedOutput implements RowOutput {
  private readonly target: RowTarget
  private readonly schema: TableSchema
  private readonly parts: PartFiles

  constructor(target: RowTarget, schema: TableSchema, partsFolder: string) {
    this.target = target
    this.schema = schema
    this.parts = new PartFiles(join(partsFolder), target.format, schema)
  }

  resume(checkpoint: number): void {
    this.parts.resume(checkpoint)
  }

  write(rows: TableRows): Promise<void> {
    return this.parts.write(rows)
  }

  flush(checkpoint: number): Promise<void> {
    return this.parts.flush(checkpoint)
  }

  async finish(rowCount: number): Promise<void> {
    const { path, format } = this.target
    await joinParts(partPaths(this.parts.folder), path, format, this.schema)
    if (format !== 'parquet') writeDescription(path, this.schema, rowCount)
    rmSync(this.parts.folder, { recursive: true })
  }

  abandon(): Promise<void> {
    return this.parts.abandon()
  }
}

class FileOutput implements RowOutput {
  private readonly target: RowTarget
  private readonly schema: TableSchema
  private readonly writer: TableWriter

  constructor(target: RowTarget, schema: TableSchema) {
    this.target = target
    this.schema = schema
    this.writer = tableWriter(target.path, target.format, schema)
  }

  resume(): void {}

  write(rows: TableRows): Promise<void> {
    return rows.rowCount === 0 ? Promise.resolve() : this.writer.write(rows)
  }

  flush(): Promise<void> {
    return Promise.resolve()
  }

  async finish(rowCount: number): Promise<void> {
    await this.writer.finish()
    if (this.target.format !== 'parquet') writeDescription(this.target.path, this.schema, rowCount)
  }

  abandon(): Promise<void> {
    return this.writer.abandon()
  }
}
