import { randomBytes } from 'node:crypto'
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
import type { RedisLogger } from './connection.ts'
import { HistoryServer } from './history-server.ts'
import { nobody, ownerName, Ownership } from './ownership.ts'
import { nonceBytes, numberScript } from './scripts.ts'
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
  private readonly server: HistoryServer
  private readonly prefix: string
  private readonly graceMs: number
  /** By owner and stored key. */
  private readonly held: KeyGenerations<string, HeldKey>
  private readonly origins = new Map<string, number>()
  /** By history: what its keys start with. */
  private readonly starts = new Map<string, string>()
  private readonly ownership = new Ownership()
  /** What keys start with that this process feeds without owning them. */
  private readonly fed = new Set<string>()

  /** @throws MeshError INVALID_ARGUMENT for a url that is none */
  constructor(options: RedisHistoryStoreOptions) {
    const { url, prefix, cacheBytes, expiryGraceMs, timeoutMs, logger } = options
    this.server = new HistoryServer({ url, prefix, timeoutMs: timeoutMs ?? defaultTimeoutMs, ...(logger !== undefined && { logger }) })
    this.prefix = prefix
    this.graceMs = expiryGraceMs ?? defaultGraceMs
    this.held = new KeyGenerations((cacheBytes ?? defaultCacheBytes) / 2, heldBytes)
  }

  /**
   * Waits for a server that is away, until the signal fires.
   * @throws MeshError UNAVAILABLE then; UNAUTHENTICATED, PERMISSION_DENIED; FAILED_PRECONDITION for a server that is too old or evicts keys
   */
  async start(signal: AbortSignal): Promise<void> {
    await this.server.start(signal)
  }

  async drain(): Promise<void> {
    await this.server.drain()
  }

  get identity(): string {
    return this.server.identity
  }

  async origin(topic: string, partition: number): Promise<number> {
    const name = `${topic}/${partition}`
    let origin = this.origins.get(name)
    if (origin === undefined) {
      origin = Number(await this.server.run(numberScript, [`${this.prefix}origins`], [name, '']))
      this.origins.set(name, origin)
    }
    return origin
  }

  watermarks(histories: readonly string[]): WatermarkBoard {
    return new RedisWatermarkBoard(this.server.connection, this.prefix, histories)
  }

  release(owner: Owner): void {
    const name = ownerName(owner)
    this.held.release(name)
    this.ownership.lose(name)
  }

  /** What is held in memory may be given out as it is: read-only, and live until the slice is appended. */
  async read(reads: readonly HistoryRead[]): Promise<readonly (readonly PackedHistory[])[]> {
    this.server.checkOpen()
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
    const values = await this.server.values(missing.map(({ start, key }) => start + key))
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
      const keys = planned.map(({ key }) => key)
      lengths = await this.server.append(keys, [newHeader, ...planned.flatMap(({ plan }) => plan.args)])
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

  /** What keys of the history start with. @throws MeshError FAILED_PRECONDITION where it is stored with another count of values */
  private async startOf({ name, valueCount }: HistorySettings): Promise<string> {
    const stored = String(await this.server.run(numberScript, [`${this.prefix}histories`], [name, `/${valueCount}`]))
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
}

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
