import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { textAt } from '@spillway/core'
import type { Write } from '../src/port.ts'
import type { ReplayedSlice, ReplaySink } from '../src/replay/replay-sink.ts'

/** A sink as its contract says: a part file a checkpoint, lines of `<topic>/<partition> <value>`. */
export class PartSink implements ReplaySink {
  private readonly folder: string
  private file: number | undefined
  private number = 0

  constructor(folder: string) {
    this.folder = folder
    mkdirSync(folder, { recursive: true })
  }

  resume(checkpoint: number): Promise<void> {
    for (const name of readdirSync(this.folder)) if (Number(name) > checkpoint) rmSync(join(this.folder, name))
    this.begin(checkpoint + 1)
    return Promise.resolve()
  }

  write(_slice: ReplayedSlice, writes: readonly Write[]): Promise<void> {
    for (const { topic, partition, records } of writes)
      for (let i = 0; i < records.count; i++) writeSync(this.file!, `${topic}/${partition} ${textAt(records.values, i)}\n`)
    return Promise.resolve()
  }

  flush(checkpoint: number): Promise<void> {
    if (checkpoint !== this.number) throw new Error(`flush of ${checkpoint}, expected ${this.number}`)
    fsyncSync(this.file!)
    closeSync(this.file!)
    this.begin(checkpoint + 1)
    return Promise.resolve()
  }

  private begin(checkpoint: number): void {
    this.number = checkpoint
    this.file = openSync(join(this.folder, String(checkpoint)), 'w')
  }
}

/** All lines that a sink has, in the order of their parts. */
export function linesOf(folder: string): string[] {
  const parts = readdirSync(folder).toSorted((a, b) => Number(a) - Number(b))
  return parts.flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n').slice(0, -1))
}
