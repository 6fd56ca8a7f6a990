import type { ReplayedSlice, ReplaySink, Write } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { RejectedFile } from './rejected-file.ts'
import type { BatchOutput } from './row-output.ts'
import type { Counts, WorkFolder } from './work-folder.ts'

/** Takes one topic's outputs of a slice. @returns what to add to the run's counts */
export type WriteTaker = (write: Write) => Promise<Counts>

export interface BatchSinkOptions {
  readonly outputs: readonly BatchOutput[]
  /** By topic, what takes what is written to it; dead letters go to `rejected`. */
  readonly takers: ReadonlyMap<string, WriteTaker>
  readonly deadLetterTopic: string
  readonly rejected: RejectedFile
  readonly work: WorkFolder | undefined
}

/** A batch run's outputs as tables, and its rejected rows: exactly once, as `ReplaySink` asks. Counts what it takes, over all runs. */
export class BatchSink implements ReplaySink {
  private readonly options: BatchSinkOptions
  private readonly counted = new Map<string, number>()

  constructor(options: BatchSinkOptions) {
    this.options = options
  }

  count(name: string): number {
    return this.counted.get(name) ?? 0
  }

  resume(checkpoint: number): Promise<void> {
    const { work, outputs, rejected } = this.options
    this.counted.clear()
    this.add(work?.counts(checkpoint) ?? {})
    for (const output of outputs) output.resume(checkpoint)
    rejected.resume(this.count('rejectedBytes'))
    return Promise.resolve()
  }

  async write(_slice: ReplayedSlice, writes: readonly Write[]): Promise<void> {
    const { takers, deadLetterTopic, rejected } = this.options
    for (const write of writes) {
      if (write.topic === deadLetterTopic) {
        rejected.append(write.records)
        this.add({ rejected: write.records.count })
        continue
      }
      const take = takers.get(write.topic)
      if (take === undefined) throw new MeshError('INTERNAL', `the run has an output for ${write.topic}, which nothing takes`)
      this.add(await take(write))
    }
  }

  async flush(checkpoint: number): Promise<void> {
    const { work, outputs, rejected } = this.options
    for (const output of outputs) await output.flush(checkpoint)
    rejected.flush()
    work?.keepCounts(checkpoint, { ...Object.fromEntries(this.counted), rejectedBytes: rejected.bytes })
  }

  /** After the last checkpoint: everything to its place. @param rowCounts one an output */
  async finish(rowCounts: readonly number[]): Promise<void> {
    const { outputs, rejected } = this.options
    for (const [index, output] of outputs.entries()) await output.finish(rowCounts[index]!)
    rejected.finish()
  }

  /** Takes back what no other run can go on with. */
  async abandon(): Promise<void> {
    const { work, outputs, rejected } = this.options
    for (const output of outputs) await output.abandon()
    if (work !== undefined) return rejected.close()
    for (const output of outputs) output.resume(0)
    rejected.abandon()
  }

  private add(counts: Counts): void {
    for (const [name, count] of Object.entries(counts)) this.counted.set(name, this.count(name) + count)
  }
}
