import { randomBytes } from 'node:crypto'
import type { KV } from '@nats-io/kv'
import { MeshError } from '@spillway/core'
import { equalPartitions } from '../equal-partitions.ts'
import { Reachability } from '../reachability.ts'
import { Slots } from '../slots.ts'
import type { Handler, Lag, ProcessOptions, Processor, ProcessorEvent } from '../port.ts'
import { natsError } from './errors.ts'
import { GroupMember } from './group-member.ts'
import type { NatsLink } from './link.ts'
import { groupKey } from './names.ts'
import { orAborted } from '../or-aborted.ts'
import type { Router } from './router.ts'
import { PartitionWorker } from './partition-worker.ts'
import { Positions } from './positions.ts'
import type { NatsTopics } from './topics.ts'
import type { Writer } from './writer.ts'

/** What a started bus has. */
export interface NatsEngine {
  readonly link: NatsLink
  readonly topics: NatsTopics
  readonly router: Router
  readonly writer: Writer
  readonly positions: KV
  readonly groups: KV
}

export interface NatsProcessorOptions {
  readonly process: ProcessOptions
  readonly handle: Handler
  /** @throws MeshError where the bus is not started */
  engine(): NatsEngine
  readonly sessionTimeoutMs: number
  /** Told once, when it has been drained. */
  onDrained(processor: Processor): void
}

const defaultDrainGraceMs = 10_000

/** A member of a group, with a worker on each partition that it holds. */
export class NatsProcessor implements Processor {
  readonly #options: NatsProcessorOptions
  readonly #id = randomBytes(9).toString('base64url')
  readonly #workers = new Map<string, PartitionWorker>()
  readonly #slots: Slots
  readonly #broker: Reachability
  #member: GroupMember | undefined
  #forgetLink: (() => void) | undefined
  #drained: Promise<void> | undefined

  constructor(options: NatsProcessorOptions) {
    if (options.process.topics.length === 0)
      throw new MeshError('INVALID_ARGUMENT', 'a processor needs a topic to read', { field: 'topics' })
    this.#options = options
    this.#broker = new Reachability(
      (event) => this.#event(event),
      (error) => natsError(error, `group "${options.process.group}"`),
    )
    this.#slots = new Slots(options.process.concurrency)
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#member !== undefined || this.#drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a processor is started once')
    const { topics, group } = this.#options.process
    try {
      const engine = this.#options.engine()
      const counts = await Promise.all(topics.map((topic) => engine.topics.partitions(topic)))
      const partitions = equalPartitions(topics, counts)
      this.#forgetLink = engine.link.onChange(() =>
        engine.link.connected
          ? this.#broker.back()
          : this.#broker.away(new MeshError('UNAVAILABLE', 'the connection to the NATS server was lost')),
      )
      this.#member = new GroupMember(engine.link, engine.groups, {
        id: this.#id,
        key: groupKey(group, topics),
        partitions,
        sessionTimeoutMs: this.#options.sessionTimeoutMs,
        onTaken: (partitions) => this.#begin(engine, partitions),
        onWanted: (partitions) => void this.#giveUp(partitions),
        onLost: (partitions) => this.#lose(partitions),
        onFailure: (error) => this.#broker.away(error),
        onSuccess: () => this.#broker.back(),
      })
      this.#member.start()
      const found = this.#member.joined.then(() => Promise.all([...this.#workers.values()].map((worker) => worker.found)))
      if ((await orAborted(found, signal)) === undefined)
        throw new MeshError('UNAVAILABLE', 'the group could not be joined in time', { cause: signal.reason })
    } catch (error) {
      await this.drain()
      throw error
    }
  }

  async lags(): Promise<readonly Lag[]> {
    const { topics } = this.#options.engine()
    return Promise.all(
      Array.from(this.#workers.values(), async ({ topic, partition, committedOffset }) => {
        const { end } = await topics.ends(topic, partition)
        return { topic, partition, committedOffset, endOffset: end }
      }),
    )
  }

  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  async #drain(): Promise<void> {
    const graceMs = this.#options.process.drainGraceMs ?? defaultDrainGraceMs
    this.#member?.beginLeaving()
    const held = [...new Set(Array.from(this.#workers.values(), ({ partition }) => partition))]
    await Promise.all(held.map(async (partition) => this.#finish(partition, graceMs)))
    await this.#member?.leave()
    // Taken while the others were finished.
    for (const worker of this.#workers.values()) worker.halt()
    this.#workers.clear()
    this.#forgetLink?.()
    this.#options.onDrained(this)
  }

  #begin(engine: NatsEngine, partitions: readonly number[]): void {
    if (this.#drained !== undefined) {
      for (const partition of partitions) this.#member!.give(partition)
      return
    }
    for (const { topic, partition } of this.#pairs(partitions)) {
      const worker = new PartitionWorker({
        topic,
        partition,
        process: this.#options.process,
        handle: this.#options.handle,
        slots: this.#slots,
        ...engine,
        positions: new Positions(engine.link, engine.positions, this.#id),
        onFenced: () => this.#member!.refresh(),
        onAway: (error) => this.#broker.away(error),
        onBack: () => this.#broker.back(),
        onEvent: (event) => this.#event(event),
      })
      this.#workers.set(`${topic}/${partition}`, worker)
      worker.start()
    }
    this.#event({ kind: 'assigned', partitions: this.#pairs(partitions) })
  }

  /** Others are to have them: each goes as soon as its slice in flight is committed. */
  async #giveUp(partitions: readonly number[]): Promise<void> {
    const graceMs = this.#options.process.drainGraceMs ?? defaultDrainGraceMs
    await Promise.all(partitions.map(async (partition) => this.#finish(partition, graceMs)))
  }

  async #finish(partition: number, graceMs: number): Promise<void> {
    const workers = this.#workersOf(partition)
    await Promise.all(workers.map(async (worker) => worker.finish(graceMs)))
    if (this.#forget(partition, workers)) this.#member!.give(partition)
  }

  #lose(partitions: readonly number[]): void {
    for (const partition of partitions) {
      const workers = this.#workersOf(partition)
      for (const worker of workers) worker.halt()
      this.#forget(partition, workers)
    }
  }

  #workersOf(partition: number): readonly PartitionWorker[] {
    return this.#options.process.topics.flatMap((topic) => this.#workers.get(`${topic}/${partition}`) ?? [])
  }

  /** Whether they were there, and nobody else's doing. */
  #forget(partition: number, workers: readonly PartitionWorker[]): boolean {
    const present = workers.filter((worker) => this.#workers.get(`${worker.topic}/${partition}`) === worker)
    for (const { topic } of present) this.#workers.delete(`${topic}/${partition}`)
    if (present.length > 0) this.#event({ kind: 'revoked', partitions: this.#pairs([partition]) })
    return present.length > 0
  }

  #pairs(partitions: readonly number[]): { topic: string; partition: number }[] {
    return this.#options.process.topics.flatMap((topic) => partitions.map((partition) => ({ topic, partition })))
  }

  #event(event: ProcessorEvent): void {
    this.#options.process.onEvent?.(event)
  }
}
