import { MeshError } from '@spillway/core'
import { Command, Redis, ReplyError } from 'ioredis'
import { redisError } from './errors.ts'
import type { Script } from './scripts.ts'

export interface RedisLogger {
  warn(fields: object, message: string): void
}

export interface RedisConnectionOptions {
  /** `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. */
  readonly url: string
  /** For an answer, and for a connection. */
  readonly timeoutMs: number
  readonly logger?: RedisLogger
}

const slowestReconnectMs = 1000

/**
 * One connection, on which commands are pipelined; it connects again by itself. Nothing is queued while it is away: a command fails at once, and one without an
 * answer fails in time, with its outcome unknown. Strings are answered as Buffers.
 */
export class RedisConnection {
  /** `host:port` */
  readonly address: string
  private readonly client: Redis
  private readonly timeoutMs: number
  private readonly logger: RedisLogger | undefined
  private failure: unknown
  private away = false

  /** @throws MeshError INVALID_ARGUMENT for what is no such url */
  constructor({ url, timeoutMs, logger }: RedisConnectionOptions) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined
    if (parsed === undefined || !/^rediss?:$/.test(parsed.protocol) || parsed.hostname === '')
      throw new MeshError('INVALID_ARGUMENT', 'the address of a Redis server is a url as in redis://localhost:6379/0', { field: 'url' })
    this.address = `${parsed.hostname}:${parsed.port === '' ? '6379' : parsed.port}`
    this.timeoutMs = timeoutMs
    this.logger = logger
    this.client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: timeoutMs,
      commandTimeout: timeoutMs,
      // A server that stands still is left, so that what it has not answered does not pile up.
      socketTimeout: timeoutMs,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      disableClientInfo: true,
      keepAlive: 30_000,
      retryStrategy: (attempt) => Math.min(slowestReconnectMs, 20 * 2 ** Math.min(attempt, 10)),
      // After a failover the address may lead to the new primary.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    })
    this.client.on('error', (error: unknown) => {
      this.failure = error
    })
    this.client.on('close', () => this.say(true))
    this.client.on('ready', () => {
      this.failure = undefined
      this.say(false)
    })
  }

  /** Resolves when a server answers; waits for one that is away. @throws MeshError that another attempt cannot cure, or UNAVAILABLE when the signal fires */
  async open(signal: AbortSignal): Promise<void> {
    // Its failure comes as an event too, and it goes on trying.
    this.client.connect().catch((error: unknown) => (this.failure ??= error))
    await this.ready(signal)
  }

  /** As `open`, of a connection that was open before. */
  async ready(signal: AbortSignal): Promise<void> {
    while (this.client.status !== 'ready') {
      if (this.failure !== undefined) {
        const { code } = this.failure as NodeJS.ErrnoException
        const error = redisError(this.failure, this.address)
        if (!error.retryable) throw error
        if (code === 'ENOTFOUND')
          throw new MeshError('UNAVAILABLE', `no Redis server: the host of ${this.address} does not exist; check the address`)
      }
      if (signal.aborted || this.client.status === 'end') throw redisError(this.failure ?? new Error('no answer'), this.address)
      await this.change(signal)
    }
  }

  close(): void {
    this.client.disconnect()
  }

  /** @throws MeshError */
  async send(name: string, args: (string | Buffer)[]): Promise<unknown> {
    try {
      return await this.sendRaw(name, args)
    } catch (thrown) {
      throw this.explained(thrown)
    }
  }

  /**
   * One command for each list of arguments, in one write. Answers are in their order, as text; a refusal is the answer of its command alone.
   * @throws MeshError where the server is away
   */
  async sendAll(name: string, args: readonly (readonly string[])[]): Promise<readonly unknown[]> {
    const pipeline = this.client.pipeline()
    for (const of of args) pipeline.call(name, ...of)
    const answers = (await pipeline.exec()) ?? []
    return answers.map(([error, answer]) => {
      if (error === null) return answer
      if (error instanceof ReplyError) return redisError(error, this.address)
      throw this.explained(error)
    })
  }

  /** @throws MeshError */
  async run({ sha, source }: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown> {
    try {
      return await this.sendRaw('EVALSHA', [sha, String(keys.length), ...keys, ...args])
    } catch (thrown) {
      if (!(thrown instanceof Error) || !thrown.message.startsWith('NOSCRIPT')) throw this.explained(thrown)
    }
    return this.send('EVAL', [source, String(keys.length), ...keys, ...args])
  }

  private async sendRaw(name: string, args: (string | Buffer)[]): Promise<unknown> {
    return this.client.sendCommand(new Command(name, args, { replyEncoding: null }))
  }

  /** What the client says of a connection that is gone speaks of its own options; what went wrong with the connection came as an event. */
  private explained(thrown: unknown): MeshError {
    if (thrown instanceof ReplyError) return redisError(thrown, this.address)
    const { message } = thrown as Error
    if (message === 'Command timed out')
      return redisError(new Error(`no answer within ${this.timeoutMs} ms`, { cause: thrown }), this.address)
    const why = this.failure instanceof Error && this.failure.message !== '' ? this.failure.message : 'the connection is closed'
    return redisError(new Error(why, { cause: thrown }), this.address)
  }

  /** Resolves when the connection's state changes, or the signal fires. */
  private async change(signal: AbortSignal): Promise<void> {
    const { client } = this
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        for (const event of ['ready', 'error', 'close']) client.off(event, finish)
        signal.removeEventListener('abort', finish)
        resolve()
      }
      for (const event of ['ready', 'error', 'close']) client.on(event, finish)
      signal.addEventListener('abort', finish)
    })
  }

  private say(away: boolean): void {
    if (away === this.away || this.client.status === 'end') return
    this.away = away
    const { address } = this
    if (away)
      this.logger?.warn({ address, error: this.failure instanceof Error ? this.failure.message : undefined }, 'the Redis server is away')
    else this.logger?.warn({ address }, 'the Redis server answers')
  }
}
