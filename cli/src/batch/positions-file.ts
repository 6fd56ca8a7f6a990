import { existsSync, readFileSync } from 'node:fs'
import { type FileLock, lockFile } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import { FinalFile } from '../tables/final-file.ts'

/** How far a topic was read into a folder of part files. */
export interface ReadPositions {
  /** Names the parts that belong to it and to what lies before it. */
  readonly checkpoint: number
  /** Rows in them. */
  readonly rows: number
  /** What is read, to know it again. */
  readonly source: Readonly<Record<string, string>>
  /** Next offset, by partition. */
  readonly positions: ReadonlyMap<number, bigint>
}

/** Keeps positions beside the part files that they are as of; held by one process at a time. */
export class PositionsFile {
  private readonly path: string
  private readonly lock: FileLock

  /** @throws MeshError FAILED_PRECONDITION where another process has it */
  constructor(path: string) {
    this.path = path
    this.lock = lockFile(path)
  }

  /** @throws MeshError FAILED_PRECONDITION where it is of another source, or damaged */
  load(source: ReadPositions['source']): ReadPositions {
    if (!existsSync(this.path)) return { checkpoint: 0, rows: 0, source, positions: new Map() }
    const stored = this.parse()
    for (const [name, value] of Object.entries(source))
      if (stored.source[name] !== value)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `${this.path}: these part files are of ${name} ${stored.source[name]}, not ${value}: give another --out`,
          { field: '--out' },
        )
    return {
      ...stored,
      positions: new Map(Object.entries(stored.positions).map(([partition, offset]) => [Number(partition), BigInt(offset)])),
    }
  }

  store({ positions, ...others }: ReadPositions): void {
    const file = new FinalFile(this.path)
    const texts = Object.fromEntries([...positions].map(([partition, offset]) => [String(partition), String(offset)]))
    file.append(Buffer.from(`${JSON.stringify({ ...others, positions: texts }, null, 2)}\n`))
    file.finish()
  }

  release(): void {
    this.lock.release()
  }

  private parse(): Omit<ReadPositions, 'positions'> & { readonly positions: Readonly<Record<string, string>> } {
    try {
      return JSON.parse(readFileSync(this.path, 'utf8')) as ReturnType<PositionsFile['parse']>
    } catch (thrown) {
      throw new MeshError('FAILED_PRECONDITION', `${this.path} is damaged: give another --out, and begin anew`, { cause: thrown })
    }
  }
}
