import { existsSync, statSync } from 'node:fs'
import { extname } from 'node:path'
import { MeshError } from '@spillway/core'
import { PartFiles, partPaths } from '../tables/part-files.ts'
import type { RowFormat } from '../tables/row-format.ts'
import { formatOfName, type RowWriter, type TableFormat } from '../tables/table.ts'

/** Where a batch run's rows go: one file, or a folder of part files. */
export interface RowTarget {
  readonly path: string
  readonly kind: 'file' | 'folder'
  readonly format: TableFormat
}

/**
 * A name with an extension is a file; a folder of part files one without, with a slash behind it, or of a folder that is there.
 * @param format `--format`; the extension's where absent, Parquet for a folder
 * @throws MeshError INVALID_ARGUMENT where the extension is unknown, or the format another one
 */
export function rowTarget(path: string, format: TableFormat | undefined): RowTarget {
  if (!isFileName(path)) return { path, kind: 'folder', format: format ?? 'parquet' }
  const named = formatOfName(path)
  if (named === undefined)
    throw new MeshError(
      'INVALID_ARGUMENT',
      `--out ${path}: a file's name ends in .parquet, .csv, .ndjson or .jsonl; write ${path}/ for a folder of part files`,
      { field: '--out' },
    )
  if (format !== undefined && format !== named)
    throw new MeshError('INVALID_ARGUMENT', `--out ${path} is a ${named} file by its name, --format says ${format}`, { field: '--format' })
  return { path, kind: 'file', format: named }
}

/** @throws MeshError INVALID_ARGUMENT where what is to be a folder of part files has a file's name, which is to say what the files are */
export function checkFolderName(path: string): void {
  if (isFileName(path))
    throw new MeshError(
      'INVALID_ARGUMENT',
      `--out ${path}: is a folder of part files, whose kind --format says: write ${path}/ if it is to have this name`,
      { field: '--out' },
    )
}

function isFileName(path: string): boolean {
  return !path.endsWith('/') && /^\.[a-z]/i.test(extname(path)) && !(existsSync(path) && statSync(path).isDirectory())
}

/** @throws MeshError FAILED_PRECONDITION where a run that begins would mix its rows with another's */
export function checkUnused(folder: string): void {
  if (partPaths(folder).length > 0)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `${folder} holds part files of another run: give this one a folder of its own, or delete them`,
      {
        field: '--out',
      },
    )
}

/** What a sink does with an output between and after checkpoints, as `ReplaySink` describes it. */
export interface BatchOutput {
  resume(checkpoint: number): void
  flush(checkpoint: number): Promise<void>
  /** After the last checkpoint: everything to its place. @param rowCount of all of it */
  finish(rowCount: number): Promise<void>
  /** Takes back what no checkpoint holds. */
  abandon(): Promise<void>
}

export interface RowOutput<Rows> extends BatchOutput {
  write(rows: Rows): Promise<void>
}

/** @param partsFolder where parts of a single file wait until it is made of them; without one, the file is written as the rows come, in one run or not at all */
export function rowOutput<Rows>(target: RowTarget, format: RowFormat<Rows>, partsFolder: string | undefined): RowOutput<Rows> {
  const { path } = target
  if (target.kind === 'folder') return new PartsOutput(path, format, (rowCount) => Promise.resolve(format.describe(path, rowCount)))
  if (partsFolder === undefined) return new FileOutput(path, format)
  return new PartsOutput(partsFolder, format, async (rowCount) => {
    await format.join(partPaths(partsFolder), path)
    if (format.extension !== 'parquet') format.describe(path, rowCount)
  })
}

class PartsOutput<Rows> implements RowOutput<Rows> {
  private readonly parts: PartFiles<Rows>
  private readonly atEnd: (rowCount: number) => Promise<void>

  constructor(folder: string, format: RowFormat<Rows>, atEnd: (rowCount: number) => Promise<void>) {
    this.parts = new PartFiles(folder, format)
    this.atEnd = atEnd
  }

  resume(checkpoint: number): void {
    this.parts.resume(checkpoint)
  }

  write(rows: Rows): Promise<void> {
    return this.parts.write(rows)
  }

  flush(checkpoint: number): Promise<void> {
    return this.parts.flush(checkpoint)
  }

  finish(rowCount: number): Promise<void> {
    return this.atEnd(rowCount)
  }

  abandon(): Promise<void> {
    return this.parts.abandon()
  }
}

class FileOutput<Rows> implements RowOutput<Rows> {
  private readonly path: string
  private readonly format: RowFormat<Rows>
  private readonly writer: RowWriter<Rows>

  constructor(path: string, format: RowFormat<Rows>) {
    this.path = path
    this.format = format
    this.writer = format.open(path)
  }

  resume(): void {}

  write(rows: Rows): Promise<void> {
    return this.format.count(rows) === 0 ? Promise.resolve() : this.writer.write(rows)
  }

  flush(): Promise<void> {
    return Promise.resolve()
  }

  async finish(rowCount: number): Promise<void> {
    await this.writer.finish()
    if (this.format.extension !== 'parquet') this.format.describe(this.path, rowCount)
  }

  abandon(): Promise<void> {
    return this.writer.abandon()
  }
}
