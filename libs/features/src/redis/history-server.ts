import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import { RedisConnection, type RedisConnectionOptions, type RedisLogger } from './connection.ts'
import { lost, whileRunning } from './errors.ts'
import { appendScript, type Script } from './scripts.ts'
import { checkServer, serverFacts } from './server-checks.ts'

/** The server as the histories' home: what it says counts only while it has all that it once acknowledged. */
export class HistoryServer {
  readonly connection: RedisConnection
  private readonly prefix: string
  private readonly logger: RedisLogger | undefined
  private readonly identityKey: string
  /** Counts slices that were written: a server that stands at less than it once said came back without its last writes. */
  private readonly writesKey: string
  private known: string | undefined
  private closed = false
  /** The newest count of writes that the server has told. */
  private writes = 0
  private readonly inFlight = new Set<Promise<unknown>>()

  /** @throws MeshError INVALID_ARGUMENT for a url that is none */
  constructor({ prefix, ...options }: RedisConnectionOptions & { readonly prefix: string }) {
    this.connection = new RedisConnection(options)
    this.prefix = prefix
    this.logger = options.logger
    this.identityKey = `${prefix}id`
    this.writesKey = `${prefix}writes`
  }

  /**
   * Waits for a server that is away, until the signal fires.
   * @throws MeshError UNAVAILABLE then; UNAUTHENTICATED, PERMISSION_DENIED; FAILED_PRECONDITION for a server that is too old or evicts keys
   */
  async start(signal: AbortSignal): Promise<void> {
    const { connection } = this
    try {
      await connection.open(signal)
      while (!(await this.introduce(signal))) await connection.ready(signal)
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** Checks the server and learns who it is. @returns whether that was done: false where the server went away meanwhile, or stood still, and is to be waited for */
  private async introduce(signal: AbortSignal): Promise<boolean> {
    const { connection } = this
    try {
      const facts = serverFacts(String(await connection.send('INFO', [])))
      checkServer(facts, connection.address)
      await connection.send('SET', [this.identityKey, randomUUID(), 'NX'])
      this.known = String(await connection.send('GET', [this.identityKey]))
      if (!facts.keepsWrites)
        this.logger?.warn(
          { address: connection.address },
          'the Redis server keeps no append-only file: histories are lost when it restarts',
        )
      return true
    } catch (thrown) {
      const error = MeshError.from(thrown)
      if (error.code !== 'UNAVAILABLE' || signal.aborted) throw error
      await sleep(retryDelayMs)
      return false
    }
  }

  async drain(): Promise<void> {
    this.closed = true
    await Promise.allSettled(this.inFlight)
    this.connection.close()
  }

  /** @throws MeshError UNAVAILABLE unless it is started, and not drained */
  get identity(): string {
    this.checkOpen()
    return this.known!
  }

  /** @throws MeshError UNAVAILABLE */
  checkOpen(): void {
    if (this.known === undefined || this.closed)
      throw new MeshError('UNAVAILABLE', 'the feature store is not started, or drained', { isOutage: true })
  }

  /** The stored values, and with them the identity: of a server that has lost its data nothing counts. */
  async values(keys: readonly string[]): Promise<readonly (Buffer | null)[]> {
    const { identity } = this
    const before = this.writes
    const asked = [this.identityKey, this.writesKey, ...keys]
    const [found, writes, ...values] = (await this.tracked(this.connection.send('MGET', asked))) as (Buffer | null)[]
    if (found?.toString() !== identity) throw this.dataLost(otherIdentity)
    this.seen(Number(writes?.toString() ?? 0), before)
    return values
  }

  /** `appendScript` over these keys. @returns their lengths afterwards */
  async append(keys: readonly string[], args: readonly (string | Buffer)[]): Promise<readonly number[]> {
    const before = this.writes
    const [writes, ...lengths] = (await this.run(appendScript, [this.writesKey, ...keys], args)) as number[]
    this.seen(writes!, before)
    return lengths
  }

  /** The script with the identity as its first key and argument. */
  async run(script: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown> {
    const { identity } = this
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

  /** @param before what had been acknowledged when the server was asked: answers may be looked at in another order */
  private seen(writes: number, before: number): void {
    if (writes < before) throw this.dataLost(`stands at write ${writes}, and had acknowledged ${before}`)
    this.writes = Math.max(this.writes, writes)
  }

  /** Retryable, so that no row is given up: whether its histories can be had again is for an operator to say. */
  private dataLost(seenBy: string): MeshError {
    return new MeshError(
      'UNAVAILABLE',
      `Redis at ${this.connection.address} has lost histories of this pipeline (${this.prefix} ${seenBy}): it was emptied, or restarted without all of ` +
        'its data. Bring the data back, or start the pipeline again from the beginning of its inputs',
      { isOutage: true },
    )
  }
}

/** Of the first commands to a server that was away when they came. */
const retryDelayMs = 50

const otherIdentity = 'is gone or another'
