import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { MeshError } from '@spillway/core'
import { FinalFile, syncFolder } from '../tables/final-file.ts'

/** What makes two runs the same run: JSON values by name. */
export type RunDescription = Readonly<Record<string, unknown>>

/** What a sink counts, at a checkpoint. */
export type Counts = Readonly<Record<string, number>>

/**
 * Where a run that can be gone on with keeps what it needs for that: what it is of (`run.json`), histories and positions (`histories.db`), what its
 * sink had counted at the last checkpoints, and parts of a single output file.
 */
export class WorkFolder {
  readonly path: string
  /** Whether a run was begun here before, the very same. */
  readonly resumed: boolean

  /** @throws MeshError FAILED_PRECONDITION where another run was begun here */
  constructor(path: string, description: RunDescription) {
    this.path = path
    const descriptionPath = join(path, 'run.json')
    // As it will be read again.
    const own = JSON.parse(JSON.stringify(description)) as RunDescription
    this.resumed = existsSync(descriptionPath)
    if (this.resumed) {
      checkSame(path, JSON.parse(readFileSync(descriptionPath, 'utf8')) as RunDescription, own)
      return
    }
    mkdirSync(path, { recursive: true })
    this.clear()
    writeWhole(descriptionPath, own)
  }

  /** Histories, and the positions that they are as of. */
  get historiesPath(): string {
    return join(this.path, 'histories.db')
  }

  /** `<path>.lock` is held by the run. */
  get positionsPath(): string {
    return join(this.path, 'positions')
  }

  /** Where parts of an output file wait. */
  partsPath(name: string): string {
    return join(this.path, `${name}.parts`)
  }

  /** A value that is decided when the run begins, and holds when it is gone on with. */
  async decided<T>(name: string, decide: () => Promise<T>): Promise<T> {
    const path = join(this.path, `${name}.json`)
    if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as T
    const value = await decide()
    writeWhole(path, value)
    return value
  }

  /** What was counted up to a checkpoint. */
  counts(checkpoint: number): Counts {
    return checkpoint === 0 ? {} : (JSON.parse(readFileSync(this.countsPath(checkpoint), 'utf8')) as Counts)
  }

  /** Keeps the counts of a checkpoint, and those of the one before, which it may still be gone on from. */
  keepCounts(checkpoint: number, counts: Counts): void {
    writeWhole(this.countsPath(checkpoint), counts)
    if (checkpoint > 2) rmSync(this.countsPath(checkpoint - 2), { force: true })
  }

  /** After the outputs are at their place: there is nothing left to go on with. */
  remove(): void {
    // First what says that there is a run: the rest is nothing without it.
    rmSync(join(this.path, 'run.json'))
    syncFolder(this.path)
    this.clear()
    if (readdirSync(this.path).length === 0) rmdirSync(this.path)
  }

  /** Nothing but what a run keeps here. */
  private clear(): void {
    for (const name of readdirSync(this.path))
      if (/^(histories\.db.*|positions\.lock.*|counts-\d+\.json|(labels|ends|done)\.json|.*\.parts|\..*\.partial)$/.test(name))
        rmSync(join(this.path, name), { recursive: true })
  }

  private countsPath(checkpoint: number): string {
    return join(this.path, `counts-${checkpoint}.json`)
  }
}

function writeWhole(path: string, value: unknown): void {
  const file = new FinalFile(path)
  file.append(Buffer.from(`${JSON.stringify(value, null, 2)}\n`))
  file.finish()
}

function checkSame(path: string, found: RunDescription, own: RunDescription): void {
  const names = [...new Set([...Object.keys(found), ...Object.keys(own)])]
  const other = names.filter((name) => !isDeepStrictEqual(found[name], own[name]))
  if (other.length === 0) return
  const text = (value: unknown): string => (value === undefined ? 'none' : JSON.stringify(value))
  const differences = other.map((name) => `${name} was ${text(found[name])}, is now ${text(own[name])}`)
  throw new MeshError(
    'FAILED_PRECONDITION',
    `${path} holds a run that was begun otherwise (${differences.join('; ')}): run the same command to go on with it, give this run a folder of its own, or delete that one`,
    { field: '--work' },
  )
}
