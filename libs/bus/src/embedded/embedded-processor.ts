import { MeshError } from '@spillway/core'
import { equalPartitions } from '../equal-partitions.ts'
import { orAborted } from '../or-aborted.ts'
import type { Handler, Lag, ProcessOptions, Processor, ProcessorEvent } from '../port.ts'
import { Slots } from '../slots.ts'
import type { Engine } from './engine.ts'
import type { Log } from './log-store.ts'
import { PartitionWorker } from './partition-worker.ts'

const defaultDrainGraceMs = 10_000

/** A worker on each partition of its topics: the file is this process's alone. */
export class EmbeddedProcessor implements Processor {
  private readonly engine: () => Engine
  private readonly options: ProcessOptions
  private readonly handle: Handler
  private readonly onDrained: (processor: EmbeddedProcessor) => void
  private workers: readonly PartitionWorker[] | undefined
  private claims: readonly string[] = []
  private drained: Promise<void> | undefined

  /** `engine` throws where the bus is not started. */
  constructor(engine: () => Engine, options: ProcessOptions, handle: Handler, onDrained: (processor: EmbeddedProcessor) => void) {
    this.engine = engine
    this.options = options
    this.handle = handle
    this.onDrained = onDrained
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.workers !== undefined || this.drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a processor is started once')
    const engine = this.engine()
    const logs = this.findLogs(engine)
    this.claim(engine)
    const { options: process, handle } = this
    const slots = new Slots(process.concurrency)
    const onEvent = (event: ProcessorEvent): void => this.emit(event)
    const workers = logs.map((log) => new PartitionWorker({ ...placeOf(log), log, engine, process, handle, slots, onEvent }))
    this.workers = workers
    this.emit({ kind: 'assigned', partitions: logs.map(placeOf) })
    for (const worker of workers) worker.start()
    if ((await orAborted(Promise.all(workers.map(({ found }) => found)), signal)) !== undefined) return
    await this.drain()
    throw new MeshError('UNAVAILABLE', 'the positions could not be found in time', { cause: signal.reason })
  }

  drain(): Promise<void> {
    this.drained ??= this.stop()
    return this.drained
  }

  lags(): Promise<readonly Lag[]> {
    const lagOf = ({ log, committedOffset }: PartitionWorker): Lag => ({ ...placeOf(log), committedOffset, endOffset: BigInt(log.end) })
    return Promise.resolve(this.workers?.map(lagOf) ?? [])
  }

  private async stop(): Promise<void> {
    if (this.workers !== undefined) {
      const { workers } = this
      const engine = this.engine()
      const graceMs = this.options.drainGraceMs ?? defaultDrainGraceMs
      await Promise.all(workers.map((worker) => worker.finish(graceMs)))
      // A note that was on its way when the grace ended is settled before another processor may read the position.
      await engine.committer.idle()
      await Promise.all(workers.map((worker) => worker.dropNote()))
      for (const claim of this.claims) engine.claims.delete(claim)
      this.emit({ kind: 'revoked', partitions: workers.map(({ log }) => placeOf(log)) })
    }
    this.onDrained(this)
  }

  private findLogs(engine: Engine): readonly Log[] {
    const topics = this.options.topics.map((name) => engine.router.topic(name))
    equalPartitions(
      this.options.topics,
      topics.map(({ logs }) => logs.length),
    )
    return topics.flatMap(({ logs }) => logs)
  }

  private claim(engine: Engine): void {
    const { group, topics } = this.options
    const claims = topics.map((topic) => `${group} ${topic}`)
    if (claims.some((claim) => engine.claims.has(claim)))
      throw new MeshError('FAILED_PRECONDITION', `group "${group}" already processes ${topics.join(', ')}: give this one another group`, {
        field: 'group',
      })
    for (const claim of claims) engine.claims.add(claim)
    this.claims = claims
  }

  private emit(event: ProcessorEvent): void {
    this.options.onEvent?.(event)
  }
}

function placeOf({ topic, partition }: Log): { readonly topic: string; readonly partition: number } {
  return { topic, partition }
}
