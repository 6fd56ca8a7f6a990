import { type Clock, MeshError, systemClock } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type {
  Bus,
  Guarantee,
  Handler,
  Lag,
  ProcessOptions,
  Processor,
  RecordPosition,
  Records,
  Slice,
  Subscription,
  TopicAdmin,
} from '../port.ts'
import { checkStamp } from '../stamp.ts'
import { Committer } from './committer.ts'
import { EmbeddedProcessor } from './embedded-processor.ts'
import type { Engine } from './engine.ts'
import { type Durability, LogStore } from './log-store.ts'
import { Retention } from './retention.ts'
import { Router } from './routing.ts'
import { drainedBefore } from '../drained.ts'
import { subscribed } from './subscribing.ts'
import { EmbeddedTopics } from './topic-admin.ts'

export interface EmbeddedBusOptions {
  /** The database file, made where it is missing, with its folder; or `:memory:`. */
  readonly path: string
  /** What an acknowledged record survives; `power-loss` where absent. */
  readonly durability?: Durability
  /** Key, value and headers of a record, in bytes; 1 MiB where absent. */
  readonly maxRecordBytes?: number
  /** Bytes of published records that may wait to be written; beyond it `publish` is RESOURCE_EXHAUSTED. 64 MiB where absent. */
  readonly maxPendingBytes?: number
  /** How often retention is looked at; 10 s where absent. */
  readonly retentionSweepMs?: number
  readonly clock?: Clock
  readonly logger?: Telemetry['logger']
}

export interface GroupLag extends Lag {
  readonly group: string
}

/** The bus in one SQLite file, of one process. Outputs and position are one SQL transaction. */
export class EmbeddedBus implements Bus {
  readonly name = 'embedded'
  readonly guarantee: Guarantee = { kind: 'exactly-once' }
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  private readonly options: EmbeddedBusOptions
  private readonly closing = new AbortController()
  private readonly processors = new Set<EmbeddedProcessor>()
  private opened: { readonly engine: Engine; readonly retention: Retention } | undefined
  private drained: Promise<void> | undefined

  constructor(options: EmbeddedBusOptions) {
    this.options = options
    this.maxRecordBytes = options.maxRecordBytes ?? 1 << 20
    this.topics = new EmbeddedTopics(() => this.engine())
  }

  /** @throws MeshError FAILED_PRECONDITION where another bus, of this process or another, holds the file, or it is no bus file */
  start(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      signal.throwIfAborted()
      if (this.opened !== undefined || this.drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a bus is started once')
      const { path, durability = 'power-loss', clock = systemClock, logger, retentionSweepMs = 10_000 } = this.options
      const store = new LogStore(path, durability, clock.nowMs())
      const retention = new Retention(store, clock, retentionSweepMs)
      const committer = new Committer(store, clock, (log) => retention.noteGrowth(log))
      this.opened = { retention, engine: { store, committer, router: new Router(store, this.maxRecordBytes), claims: new Set(), logger } }
      retention.start((error) => logger?.error({ err: error }, 'retention could not drop old records; it tries again'))
      resolve()
    })
  }

  drain(): Promise<void> {
    this.drained ??= this.close()
    return this.drained
  }

  async publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    const { router, committer } = this.engine()
    const routed = router.route({ topic, records, ...(partition !== undefined && { partition }) })
    const { maxPendingBytes = 64 << 20 } = this.options
    if (committer.pendingBytes > maxPendingBytes)
      throw new MeshError(
        'RESOURCE_EXHAUSTED',
        `${committer.pendingBytes} bytes wait to be written, more than ${maxPendingBytes}: publish more slowly`,
      )
    if (routed.length === 0) return []
    const bases = await committer.submit({ appends: routed })
    const positions = new Array<RecordPosition>(records.count)
    for (const [index, { log, records: part, indices }] of routed.entries()) {
      const base = bases[index]!
      for (let i = 0; i < part.count; i++) positions[indices ? indices[i]! : i] = { partition: log.partition, offset: BigInt(base + i) }
    }
    return positions
  }

  /** An offset past the end waits for it. */
  async *subscribe(subscription: Subscription): AsyncGenerator<Slice, void, undefined> {
    yield* subscribed(this.engine(), subscription, AbortSignal.any([subscription.signal, this.closing.signal]))
    if (subscription.until !== undefined && this.closing.signal.aborted && !subscription.signal.aborted) throw drainedBefore(subscription)
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    checkStamp(options.stamp)
    const processor = new EmbeddedProcessor(
      () => this.engine(),
      options,
      handle,
      (drained) => this.processors.delete(drained),
    )
    this.processors.add(processor)
    return processor
  }

  /** How far each group is behind, by partition that it has a position on: the depth of every queue. */
  groupLags(): readonly GroupLag[] {
    return this.engine()
      .store.positions()
      .map(({ group, log, next }) => ({
        group,
        topic: log.topic,
        partition: log.partition,
        committedOffset: BigInt(next),
        endOffset: BigInt(log.end),
      }))
  }

  /** Makes a partition's records before `offset` unavailable, now, as Kafka's DeleteRecords. @throws MeshError NOT_FOUND */
  dropBefore(topic: string, partition: number, offset: bigint): void {
    const { store, router } = this.engine()
    const log = router.topic(topic).logs[partition]
    if (log === undefined) throw new MeshError('NOT_FOUND', `topic "${topic}" has no partition ${partition}`, { field: 'partition' })
    store.dropBefore(log, Number(offset))
  }

  private engine(): Engine {
    if (this.opened === undefined) throw new MeshError('UNAVAILABLE', this.drained ? 'the bus is closed' : 'the bus is not started')
    return this.opened.engine
  }

  private async close(): Promise<void> {
    await Promise.all([...this.processors].map((processor) => processor.drain()))
    this.closing.abort()
    if (this.opened === undefined) return
    const { engine, retention } = this.opened
    this.opened = undefined
    await retention.stop()
    await engine.committer.idle()
    engine.store.close()
  }
}
