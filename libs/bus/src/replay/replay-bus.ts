import { MeshError } from '@spillway/core'
import { type FileLock, lockFile } from '../embedded/file-lock.ts'
import type { Bus, Guarantee, Handler, ProcessOptions, Processor, RecordPosition, Slice, TopicAdmin } from '../port.ts'
import { checkStamp } from '../stamp.ts'
import { type Checkpoint, CheckpointFile, type CheckpointStore } from './checkpoint.ts'
import { CommitGate } from './commit-gate.ts'
import { type OpenInput, openInputs } from './inputs.ts'
import type { ReplayLane } from './replay-lane.ts'
import { ReplayProcessor, type ReplayRun } from './replay-processor.ts'
import type { ReplaySink } from './replay-sink.ts'
import type { ReplaySource } from './replay-source.ts'
import { ReplayTopics } from './replay-topics.ts'

export interface ReplayBusOptions {
  /** One a topic. */
  readonly sources: readonly ReplaySource[]
  readonly sink: ReplaySink
  /** Where it is kept how far the run has come; without one, a run that ends early begins anew. One run at a time: `<path>.lock` is held. */
  readonly checkpointPath?: string
  /** In place of that file: with what else has to be as of the same position (histories in a database, say), so that both are stored at once. */
  readonly checkpoints?: CheckpointStore
  /** How often a checkpoint is taken: what a run that is killed has to do again, at most. 10 s where absent. */
  readonly checkpointEveryMs?: number
  /** What `describe` says of topics that are no inputs; 1 where absent. */
  readonly partitions?: number
  /** What `maxRecordBytes` says; 1 MiB where absent. The sink takes records of any size. */
  readonly maxRecordBytes?: number
  /** Told once a second, and at the end. */
  readonly onProgress?: (progress: ReplayProgress) => void
}

export interface ReplayProgress {
  /** Records answered, in all runs. */
  readonly records: number
  /** The last checkpoint that is stored; 0 before the first. */
  readonly checkpoint: number
  readonly partitions: readonly {
    readonly topic: string
    readonly partition: number
    readonly records: number
    /** How much has been answered, 0 to 1, as near as is known. */
    readonly share: number
    readonly finished: boolean
  }[]
}

const progressEveryMs = 1000

/**
 * A bus for batch runs: its topics are finite inputs, what is written goes to a sink, and the position is a checkpoint file. The very code that
 * processes a live topic processes a file with it. Nothing can be published to it.
 */
export class ReplayBus implements Bus {
  readonly name = 'replay'
  readonly guarantee: Guarantee = { kind: 'exactly-once' }
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  private readonly options: ReplayBusOptions
  private readonly gate = new CommitGate()
  private readonly file: CheckpointStore | undefined
  private readonly processors = new Set<ReplayProcessor>()
  private readonly claimed = new Set<string>()
  private readonly failure = new AbortController()
  private readonly finished = Promise.withResolvers<void>()
  private readonly timers: NodeJS.Timeout[] = []
  private stamps: Record<string, string> = {}
  private inputs: ReadonlyMap<string, OpenInput> | undefined
  private lock: FileLock | undefined
  /** As last stored. */
  private stored = { number: 0, finished: false, records: 0 }
  private checkpointing = false
  private drained: Promise<void> | undefined

  constructor(options: ReplayBusOptions) {
    const { sources, checkpointPath, checkpoints } = options
    const topics = sources.map((source) => source.topic)
    const double = topics.find((topic, index) => topics.indexOf(topic) !== index)
    if (double !== undefined)
      throw new MeshError('INVALID_ARGUMENT', `topic "${double}" has two sources, expected one: give all its files to one`, {
        field: 'sources',
      })
    this.options = options
    this.maxRecordBytes = options.maxRecordBytes ?? 1 << 20
    this.file = checkpoints ?? (checkpointPath === undefined ? undefined : new CheckpointFile(checkpointPath))
    this.topics = new ReplayTopics(options.partitions ?? 1, () => this.opened())
    // Who waits for the end is told of a failure; nobody has to.
    this.finished.promise.catch(() => undefined)
  }

  /**
   * Opens the inputs, finds the checkpoint and takes the sink back to it.
   * @throws MeshError FAILED_PRECONDITION where the checkpoint is damaged, of other inputs, or used by another run; what sources and sink throw
   */
  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.inputs !== undefined || this.drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a bus is started once')
    const { sources, sink, checkpointEveryMs = 10_000 } = this.options
    if (this.file !== undefined) this.lock = lockFile(this.file.path)
    try {
      const found = await this.file?.load()
      const inputs = await openInputs(sources, found?.inputs, this.file?.path, signal)
      await sink.resume(found?.number ?? 0)
      this.inputs = inputs
      this.stamps = { ...found?.stamps }
      if (found !== undefined) this.stored = { number: found.number, finished: found.finished, records: this.records() }
    } catch (thrown) {
      this.lock?.release()
      this.lock = undefined
      throw MeshError.from(thrown)
    }
    this.timers.push(
      setInterval(() => void this.due(), checkpointEveryMs),
      setInterval(() => this.options.onProgress?.(this.progress()), progressEveryMs),
    )
    this.laneEnded()
  }

  /**
   * Resolves when all inputs have been read to their ends and the last checkpoint is stored. Each input needs a processor.
   * @throws MeshError what a source or the sink threw, which ended the run; CANCELLED where it was drained before its end
   */
  done(): Promise<void> {
    return this.finished.promise
  }

  progress(): ReplayProgress {
    const partitions = this.lanes().map(({ topic, partition, records, share, finished }) => ({
      topic,
      partition,
      records,
      share,
      finished,
    }))
    return { records: this.records(), checkpoint: this.stored.number, partitions }
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    checkStamp(options.stamp)
    const processor = new ReplayProcessor(() => this.run(), options, handle)
    this.processors.add(processor)
    return processor
  }

  /** @throws MeshError FAILED_PRECONDITION */
  publish(topic: string): Promise<readonly RecordPosition[]> {
    return Promise.reject(
      new MeshError('FAILED_PRECONDITION', `a replay reads what there is: publish to "${topic}" on the bus that the pipeline runs on`),
    )
  }

  /** @throws MeshError FAILED_PRECONDITION */
  subscribe({ topic }: { readonly topic: string }): AsyncIterable<Slice> {
    throw new MeshError('FAILED_PRECONDITION', `a replay keeps no topics: what it writes to "${topic}" is in its sink`)
  }

  /** Finishes the slices in flight and stores a last checkpoint, so that another run goes on from here. */
  drain(): Promise<void> {
    this.drained ??= this.close()
    return this.drained
  }

  private async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer)
    await Promise.all([...this.processors].map((processor) => processor.drain()))
    if (this.inputs !== undefined) await this.checkpoint()
    this.finished.reject(new MeshError('CANCELLED', 'the replay was drained before its end: start it again to go on'))
    this.lock?.release()
  }

  private run(): ReplayRun {
    this.opened()
    return {
      sink: this.options.sink,
      gate: this.gate,
      failed: this.failure.signal,
      claim: (options) => this.claim(options),
      laneEnded: () => this.laneEnded(),
      fail: (error) => this.fail(error),
    }
  }

  private opened(): ReadonlyMap<string, OpenInput> {
    if (this.inputs === undefined) throw new MeshError('UNAVAILABLE', 'the bus is not started')
    return this.inputs
  }

  /** One process has all partitions, so topics read together may have different counts of them. */
  private claim({ topics, group, stamp }: ProcessOptions): readonly ReplayLane[] {
    const inputs = this.opened()
    const lanes = topics.flatMap((topic) => {
      const input = inputs.get(topic)
      if (input === undefined)
        throw new MeshError('NOT_FOUND', `there is no input for topic "${topic}": the replay has ${[...inputs.keys()].join(', ')}`, {
          field: 'topic',
        })
      if (this.claimed.has(topic))
        throw new MeshError('FAILED_PRECONDITION', `topic "${topic}" of the replay has a processor already`, { field: 'topics' })
      return input.lanes
    })
    const found = this.stamps[group]
    if (stamp !== undefined && found !== undefined && found !== stamp)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `the checkpoint ${this.file?.path} rests on "${found}", this run on "${stamp}": give it what it began with, or begin anew`,
        { field: 'stamp' },
      )
    if (stamp !== undefined) this.stamps[group] = stamp
    for (const topic of topics) this.claimed.add(topic)
    return lanes
  }

  private lanes(): readonly ReplayLane[] {
    return [...(this.inputs?.values() ?? [])].flatMap((input) => input.lanes)
  }

  private records(): number {
    return this.lanes().reduce((sum, lane) => sum + lane.records, 0)
  }

  private laneEnded(): void {
    if (this.lanes().every((lane) => lane.finished)) void this.finish()
  }

  private async finish(): Promise<void> {
    await this.checkpoint()
    for (const timer of this.timers) clearInterval(timer)
    this.options.onProgress?.(this.progress())
    // Without effect where the checkpoint failed.
    this.finished.resolve()
  }

  /** One is not due while another is taken. */
  private async due(): Promise<void> {
    if (this.checkpointing) return
    this.checkpointing = true
    await this.checkpoint()
    this.checkpointing = false
  }

  private async checkpoint(): Promise<void> {
    try {
      await this.gate.hold(() => this.take())
    } catch (thrown) {
      this.fail(MeshError.from(thrown))
    }
  }

  /** Within the gate: no write is under way. */
  private async take(): Promise<void> {
    if (this.failure.signal.aborted) return
    const lanes = this.lanes()
    const next = { number: this.stored.number + 1, finished: lanes.every((lane) => lane.finished), records: this.records() }
    if (next.records === this.stored.records && next.finished === this.stored.finished) return
    const inputs = [...this.opened()].map(([topic, { identity, lanes }]) => ({
      topic,
      identity,
      partitions: lanes.map((lane) => lane.checkpoint),
    }))
    const checkpoint: Checkpoint = { number: next.number, finished: next.finished, inputs, stamps: { ...this.stamps } }
    await this.options.sink.flush(next.number)
    await this.file?.store(checkpoint)
    this.stored = next
  }

  private fail(error: MeshError): void {
    for (const timer of this.timers) clearInterval(timer)
    this.finished.reject(error)
    this.failure.abort(error)
  }
}
