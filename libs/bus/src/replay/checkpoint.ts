import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { MeshError } from '@spillway/core'

/** How far a replay has come: all outputs of what lies before the positions, and no others, are in the sink's checkpoints up to `number`. */
export interface Checkpoint {
  /** 1 for the first. */
  readonly number: number
  readonly finished: boolean
  readonly inputs: readonly CheckpointInput[]
  /** By group: `ProcessOptions.stamp`. */
  readonly stamps: Readonly<Record<string, string>>
}

export interface CheckpointInput {
  readonly topic: string
  readonly identity: string
  readonly partitions: readonly CheckpointPartition[]
}

/** Offsets as decimal text: JSON numbers end at 2^53. */
export interface CheckpointPartition {
  readonly partition: number
  readonly from: string
  readonly end: string | null
  /** First offset that is not answered yet. */
  readonly position: string
  /** Whether that is the end. */
  readonly finished: boolean
  /** Records answered, in all runs. */
  readonly records: number
}

/** Where a run's checkpoints are kept: the last one, whole. */
export interface CheckpointStore {
  /** For messages; `<path>.lock` is held while a run uses it. */
  readonly path: string
  /** Undefined where there is none yet. @throws MeshError FAILED_PRECONDITION where what is there is no intact checkpoint */
  load(): Promise<Checkpoint | undefined>
  /** Resolves when it has taken the place of the one before, for good. */
  store(checkpoint: Checkpoint): Promise<void>
}

const format = 1

/** A checkpoint as a file: always a whole one, the last or the one before. */
export class CheckpointFile implements CheckpointStore {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** Undefined where there is none yet. @throws MeshError FAILED_PRECONDITION where the file is no intact checkpoint */
  async load(): Promise<Checkpoint | undefined> {
    let text: string
    try {
      text = await readFile(this.path, 'utf8')
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new MeshError('FAILED_PRECONDITION', `cannot read the checkpoint ${this.path}: ${(thrown as Error).message}`, { cause: thrown })
    }
    let stored: { readonly format?: unknown; readonly sha256?: unknown; readonly checkpoint?: unknown } | null
    try {
      stored = JSON.parse(text) as typeof stored
    } catch (thrown) {
      throw this.damaged((thrown as Error).message, thrown)
    }
    if (stored?.format !== format) throw this.damaged(`its format is ${JSON.stringify(stored?.format)}, expected ${format}`)
    if (stored.sha256 !== digest(stored.checkpoint)) throw this.damaged('its contents do not match their digest')
    return stored.checkpoint as Checkpoint
  }

  /** Resolves when it is on the disk, in place of the one before. */
  async store(checkpoint: Checkpoint): Promise<void> {
    const folder = dirname(this.path)
    await mkdir(folder, { recursive: true })
    const text = `${JSON.stringify({ format, sha256: digest(checkpoint), checkpoint }, undefined, 2)}\n`
    const temporary = `${this.path}.next`
    const file = await open(temporary, 'w')
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, this.path)
    // The new name is the folder's to keep.
    const entry = await open(folder, 'r')
    try {
      await entry.sync()
    } finally {
      await entry.close()
    }
  }

  private damaged(why: string, cause?: unknown): MeshError {
    return new MeshError(
      'FAILED_PRECONDITION',
      `${this.path} is no intact checkpoint: ${why}; delete it, and what was written with it, to begin anew`,
      { cause },
    )
  }
}

function digest(checkpoint: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(checkpoint) ?? '')
    .digest('hex')
}
