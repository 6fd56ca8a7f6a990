import { randomBytes, randomUUID } from 'node:crypto'
import { MeshError } from '@spillway/core'
import type {
  HistoryEntry,
  HistoryRead,
  HistorySettings,
  HistoryStore,
  HistoryWrite,
  Owner,
  PackedHistory,
  WatermarkBoard,
} from '../store.ts'
import { KeyGenerations } from '../key-generations.ts'
import { KeyHistory } from '../windows/key-history.ts'
import { RedisConnection, type RedisLogger } from './connection.ts'
import { lost, whileRunning } from './errors.ts'
import { nobody, ownerName, Ownership } from './ownership.ts'
import { appendScript, nonceBytes, numberScript, type Script } from './scripts.ts'
import { checkServer, serverFacts } from './server-checks.ts'
import { headerOf, heldBytes, heldFrom, type HeldKey, planWrite, type PlannedWrite } from './stored-value.ts'
import { RedisWatermarkBoard } from './watermark-board.ts'

export interface RedisHistoryStoreOptions {
  /** `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS: Redis 7.0 or later, or Valkey; one primary. */
  readonly url: string
  /** Starts every key. With a hash tag, as in `spillway:{fraud}:`, all keys are in one slot of a cluster. */
  readonly prefix: string
  /** What the keys of owned partitions may take in memory: 192 MiB where absent. Those beyond it are read again. */
  readonly cacheBytes?: number
  /**
   * How much longer than its windows need a history is kept, by the clock, after it was last written: 30 days where absent. More than what a pipeline may
   * ever fall further behind: what stands still for longer than retention and this finds its histories gone.
   */
  readonly expiryGraceMs?: number
  /** For the server's answer: 5 s where absent. */
  readonly timeoutMs?: number
  readonly logger?: RedisLogger
}

const defaultCacheBytes = 192 * 1024 * 1024
const defaultGraceMs = 30 * 86_400_000
const defaultTimeoutMs = 5000

/**
 * Histories in Redis or Valkey, for several processes side by side. A slice costs one MGET, of the keys that are not held in memory, and one script that appends
 * to all keys it feeds. A key's history is one string: blocks of packed entries, written anew as one block when much was appended.
 *
 * Keys of an owned partition are held in memory. That another process has written to one shows in the length that the append answers: the slice is then tried
 * again on what is stored. Nothing is lost however many write, since writers append, and replace only what they have read.
 */
export class RedisHistoryStore implements HistoryStore {
  readonly scope = 'shared'
  private readonly connection: RedisConnection
  private readonly prefix: string
  private readonly graceMs: number
  private readonly logger: RedisLogger | undefined
  /** By owner and stored key. */
  private readonly held: KeyGenerations<string, HeldKey>
  private known: string | undefined
  private closed = false
  /** The newest count of writes that the server has told. */
  private writes = 0
  private readonly inFlight = new Set<Promise<unknown>>()
  private readonly origins = new Map<string, number>()
  /** By history: what its keys start with. */
  private readonly starts = new Map<string, string>()
  private readonly ownership = new Ownership()
  /** What keys start with that this process feeds without owning them. */
  private readonly fed = new Set<string>()

  /** @throws MeshError INVALID_ARGUMENT for a url that is none */
  constructor(options: RedisHistoryStoreOptions) {
    const { url, prefix, cacheBytes, expiryGraceMs, timeoutMs, logger } = options
    this.connection = new RedisConnection({ url, timeoutMs: timeoutMs ?? defaultTimeoutMs, ...(logger !== undefined && { logger }) })
    this.prefix = prefix
    this.graceMs = expiryGraceMs ?? defaultGraceMs
    this.logger = logger
    this.held = new KeyGenerations((cacheBytes ?? defaultCacheBytes) / 2, heldBytes)
  }

  /**
   * Waits for a server that is away, until the signal fires.
   * @throws MeshError UNAVAILABLE then; UNAUTHENTICATED, PERMISSION_DENIED; FAILED_PRECONDITION for a server that is too old or evicts keys
   */
  async start(signal: AbortSignal): Promise<void> {
    const { connection } = this
    try {
      await connection.open(signal)
      const facts = serverFacts(String(await connection.send('INFO', [])))
      checkServer(facts, connection.address)
      if (!facts.keepsWrites)
        this.logger?.warn(
          { address: connection.address },
          'the Redis server keeps no append-only file: histories are lost when it restarts',
        )
      await connection.send('SET', [this.identityKey, randomUUID(), 'NX'])
      this.known = String(await connection.send('GET', [this.identityKey]))
    } catch (error) {
      connection.close()
      throw error
    }
  }

  async drain(): Promise<void> {
    this.closed = true
    await Promise.allSettled(this.inFlight)
    this.connection.close()
  }

  get identity(): string {
    return this.opened()
  }

  async origin(topic: string, partition: number): Promise<number> {
    const name = `${topic}/${partition}`
    let origin = this.origins.get(name)
    if (origin === undefined) {
      origin = Number(await this.run(numberScript, [`${this.prefix}origins`], [name, '']))
      this.origins.set(name, origin)
    }
    return origin
  }

  watermarks(histories: readonly string[]): WatermarkBoard {
    return new RedisWatermarkBoard(this.connection, this.prefix, histories)
  }

  release(owner: Owner): void {
    const name = ownerName(owner)
    this.held.release(name)
    this.ownership.lose(name)
  }

  /** What is held in memory may be given out as it is: read-only, and live until the slice is appended. */
  async read(reads: readonly HistoryRead[]): Promise<readonly (readonly PackedHistory[])[]> {
    this.opened()
    this.held.trim()
    const found: PackedHistory[][] = []
    const missing: MissingKey[] = []
    for (const [index, { history, keys, owner }] of reads.entries()) {
      const start = this.starts.get(history.name) ?? (await this.startOf(history))
      const by = this.ownership.nameOf(owner)
      const histories: PackedHistory[] = []
      for (const [at, key] of keys.entries()) {
        const held = by === nobody ? undefined : this.held.get(by, start + key)
        if (held !== undefined) histories[at] = held.history
        else missing.push({ history, key, by, epoch: this.ownership.epoch(by), start, index, at })
      }
      found.push(histories)
    }
    if (missing.length === 0) return found
    const values = await this.values(missing.map(({ start, key }) => start + key))
    for (const [at, value] of values.entries()) {
      const { history, key, by, epoch, start, ...place } = missing[at]!
      const held = heldFrom(value, new KeyHistory(history, 0, key))
      found[place.index]![place.at] = held.history
      const kept = by === nobody ? this.fed.has(start) : epoch === this.ownership.epoch(by)
      if (kept) this.held.put(by, start + key, held)
    }
    return found
  }

  async append(writes: readonly HistoryWrite[]): Promise<void> {
    const nonce = randomBytes(nonceBytes)
    const newHeader = headerOf(nonce, 0)
    const conditions = { nonce, graceMs: this.graceMs, nowMs: Date.now() }
    const planned: PlannedAppend[] = []
    for (const write of writes) {
      const start = this.starts.get(write.history.name) ?? (await this.startOf(write.history))
      const by = this.ownership.nameOf(write.owner)
      if (by === nobody) this.fed.add(start)
      const key = start + write.key
      const held = this.held.get(by, key)
      const plan = planWrite(write, held, { ...conditions, owned: by !== nobody })
      // What nobody owns may have been written to since: it is read again.
      if (by === nobody) this.held.forget(by, key)
      if (plan !== undefined) planned.push({ by, key, held: by === nobody ? undefined : held, entries: write.entries, plan })
    }
    if (planned.length === 0) return
    let lengths: readonly number[]
    try {
      const keys = [this.writesKey, ...planned.map(({ key }) => key)]
      const before = this.writes
      const answer = (await this.run(appendScript, keys, [newHeader, ...planned.flatMap(({ plan }) => plan.args)])) as readonly number[]
      this.seen(answer[0]!, before)
      lengths = answer.slice(1)
    } catch (error) {
      // Whether it was done is not known.
      for (const { by, key } of planned) this.held.forget(by, key)
      throw error
    }
    this.settle(planned, lengths, newHeader)
  }

  private settle(planned: readonly PlannedAppend[], lengths: readonly number[], newHeader: Buffer): void {
    const others = new Set<string>()
    planned.forEach(({ by, held, entries, plan }, index) => {
      if (held === undefined) return
      if (lengths[index] !== plan.length) {
        others.add(by)
        return
      }
      const before = held.history.bytes
      plan.done(held, entries, newHeader)
      this.held.grew(held.history.bytes - before)
    })
    if (others.size === 0) return
    for (const by of others) {
      this.held.release(by)
      this.ownership.contest(by)
    }
    throw new MeshError('ABORTED', `histories of ${[...others].join(', ')} were written by another process too: they are read again`)
  }

  /** The identity, which only an open store has. */
  private opened(): string {
    if (this.known === undefined || this.closed) throw new MeshError('UNAVAILABLE', 'the feature store is not started, or drained')
    return this.known
  }

  private get identityKey(): string {
    return `${this.prefix}id`
  }

  /** Counts slices that were written: a server that stands at less than it once said came back without its last writes. */
  private get writesKey(): string {
    return `${this.prefix}writes`
  }

  /** @param before what had been acknowledged when the server was asked: answers may be looked at in another order */
  private seen(writes: number, before: number): void {
    if (writes < before) throw this.dataLost(`stands at write ${writes}, and had acknowledged ${before}`)
    this.writes = Math.max(this.writes, writes)
  }

  /** What keys of the history start with. @throws MeshError FAILED_PRECONDITION where it is stored with another count of values */
  private async startOf({ name, valueCount }: HistorySettings): Promise<string> {
    const stored = String(await this.run(numberScript, [`${this.prefix}histories`], [name, `/${valueCount}`]))
    const [id, count] = stored.split('/') as [string, string]
    if (Number(count) !== valueCount)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `history ${name} is stored with ${count} values an entry, not ${valueCount}: give it another name`,
      )
    const start = `${this.prefix}${id}:`
    this.starts.set(name, start)
    return start
  }

  /** The stored values, and with them the identity: of a server that has lost its data nothing counts. */
  private async values(keys: readonly string[]): Promise<readonly (Buffer | null)[]> {
    const identity = this.opened()
    const before = this.writes
    const asked = [this.identityKey, this.writesKey, ...keys]
    const [found, writes, ...values] = (await this.tracked(this.connection.send('MGET', asked))) as (Buffer | null)[]
    if (found?.toString() !== identity) throw this.dataLost(otherIdentity)
    this.seen(Number(writes?.toString() ?? 0), before)
    return values
  }

  /** The script with the identity as its first key and argument. */
  private async run(script: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown> {
    const identity = this.opened()
    return this.tracked(this.connection.run(script, [this.identityKey, ...keys], [identity, ...args]))
  }

  private async tracked<T>(work: Promise<T>): Promise<T> {
    this.inFlight.add(work)
    try {
      return await work
    } catch (thrown) {
      const error = MeshError.from(thrown)
      throw error.message.includes(lost) ? this.dataLost(otherIdentity) : whileRunning(error)
    } finally {
      this.inFlight.delete(work)
    }
  }

  /** Retryable, so that no row is given up: whether its histories can be had again is for an operator to say. */
  private dataLost(seenBy: string): MeshError {
    return new MeshError(
      'UNAVAILABLE',
      `Redis at ${this.connection.address} has lost histories of this pipeline (${this.prefix} ${seenBy}): it was emptied, or restarted without all of ` +
        'its data. Bring the data back, or start the pipeline again from the beginning of its inputs',
    )
  }
}

const otherIdentity = 'is gone or another'

interface MissingKey {
  readonly history: HistorySettings
  readonly key: string
  readonly by: string
  readonly epoch: number
  readonly start: string
  /** Of the read, and of the key in it. */
  readonly index: number
  readonly at: number
}

interface PlannedAppend {
  readonly by: string
  readonly key: string
  readonly held: HeldKey | undefined
  readonly entries: readonly HistoryEntry[]
  readonly plan: PlannedWrite
}
