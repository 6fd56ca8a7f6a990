import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { syncFolder } from './final-file.ts'
import type { RowFormat } from './row-format.ts'
import type { RowWriter } from './table.ts'

/**
 * Rows in a folder, a file a checkpoint: `part-00003.parquet` holds exactly the rows between the second checkpoint and the third. So what a
 * run has to take back after it was killed are whole files. A checkpoint without rows has no file.
 */
export class PartFiles<Rows> {
  readonly folder: string
  private readonly format: RowFormat<Rows>
  private next = 1
  private part: RowWriter<Rows> | undefined

  constructor(folder: string, format: RowFormat<Rows>) {
    this.folder = folder
    this.format = format
  }

  /** Removes what belongs to later checkpoints. */
  resume(checkpoint: number): void {
    mkdirSync(this.folder, { recursive: true })
    for (const name of readdirSync(this.folder)) {
      const [, hidden, number] = /^(\.?)part-(\d{5,})\.(?:parquet|csv|ndjson)(?:\.partial)?$/.exec(name) ?? []
      if (number !== undefined && (hidden === '.' || Number(number) > checkpoint)) rmSync(join(this.folder, name))
    }
    syncFolder(this.folder)
    this.next = checkpoint + 1
  }

  async write(rows: Rows): Promise<void> {
    if (this.format.count(rows) === 0) return
    this.part ??= this.format.open(join(this.folder, this.nameOf(this.next)))
    await this.part.write(rows)
  }

  /** What was written since the last one is on the disk, as that checkpoint's file. */
  async flush(checkpoint: number): Promise<void> {
    const { part } = this
    this.part = undefined
    this.next = checkpoint + 1
    await part?.finish()
  }

  /** Drops what was not flushed. */
  async abandon(): Promise<void> {
    const { part } = this
    this.part = undefined
    await part?.abandon()
  }

  private nameOf(checkpoint: number): string {
    return `part-${String(checkpoint).padStart(5, '0')}.${this.format.extension}`
  }
}

/** The part files of a folder, in order; none where there is no such folder. */
export function partPaths(folder: string): readonly string[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => /^part-\d{5,}\.(parquet|csv|ndjson)$/.test(name))
  const number = (name: string): number => Number(/\d+/.exec(name)![0])
  return names.sort((a, b) => number(a) - number(b)).map((name) => join(folder, name))
}
