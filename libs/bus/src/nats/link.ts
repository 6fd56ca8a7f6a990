import { jetstream, type JetStreamClient, jetstreamManager, type JetStreamManager } from '@nats-io/jetstream'
import { connect, errors, type NatsConnection } from '@nats-io/transport-node'
import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { checkHosts } from '../hosts.ts'
import { isUnauthorized, natsError } from './errors.ts'

export interface LinkOptions {
  /** `host:port` each. */
  readonly servers: readonly string[]
  readonly user?: string
  readonly password?: string
  /** What the server's monitoring calls this process. */
  readonly name: string
  onAway(error: unknown): void
  onBack(): void
}

/** How long one request of JetStream's API is waited for. */
const requestTimeoutMs = 5000

/** The connection to the servers: the client connects again by itself, and those who listen are told at once. */
export class NatsLink {
  readonly connection: NatsConnection
  readonly jetstream: JetStreamClient
  readonly manager: JetStreamManager
  readonly #options: LinkOptions
  readonly #listeners = new Set<() => void>()
  #connected = true

  private constructor(connection: NatsConnection, manager: JetStreamManager, options: LinkOptions) {
    this.connection = connection
    this.manager = manager
    this.jetstream = jetstream(connection, { timeout: requestTimeoutMs })
    this.#options = options
    void this.#follow()
  }

  /** Waits for a server that is away until the signal fires. @throws MeshError UNAVAILABLE then, UNAUTHENTICATED at once, UNAVAILABLE at once where no server's name exists. */
  static async open(options: LinkOptions, signal: AbortSignal): Promise<NatsLink> {
    const { servers, user, password, name } = options
    await checkHosts('NATS server', servers)
    for (let attempt = 1; ; attempt++) {
      let connection: NatsConnection | undefined
      try {
        connection = await connect({
          servers: [...servers],
          name,
          ...(user !== undefined && { user, pass: password ?? '' }),
          timeout: 3000,
          maxReconnectAttempts: -1,
          reconnectTimeWait: 100,
          reconnectJitter: 50,
          // A server that stands still is noticed after some six seconds.
          pingInterval: 2000,
          maxPingOut: 2,
          noAsyncTraces: true,
        })
        const manager = await jetstreamManager(connection, { timeout: requestTimeoutMs })
        return new NatsLink(connection, manager, options)
      } catch (error) {
        await connection?.close()
        if (isUnauthorized(error)) throw natsError(error, 'connecting')
        options.onAway(error)
        await pause(backoffMs(attempt, 2000), signal)
        if (signal.aborted) throw new MeshError('UNAVAILABLE', natsError(error, 'connecting').message, { cause: error })
      }
    }
  }

  get connected(): boolean {
    return this.#connected
  }

  /** Largest message that the server takes, headers included, in bytes. */
  get maxPayloadBytes(): number {
    return this.connection.info?.max_payload ?? 1 << 20
  }

  /** Told when the connection is lost and when it is there again. Gives the function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when connected, or when the signal fires. */
  async untilConnected(signal: AbortSignal): Promise<void> {
    while (!this.#connected && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const forget = this.onChange(resolve)
      signal.addEventListener('abort', () => resolve(), { once: true })
      await promise
      forget()
    }
  }

  /** Makes a request that fails as soon as the connection is lost: the client alone would wait for its answer until it times out. */
  async request<T>(make: () => Promise<T>): Promise<T> {
    const lost = Promise.withResolvers<never>()
    const refuse = (): void => lost.reject(new errors.ConnectionError('the connection was lost'))
    const forget = this.onChange(refuse)
    if (!this.#connected) refuse()
    try {
      return await Promise.race([make(), lost.promise])
    } finally {
      forget()
    }
  }

  async close(): Promise<void> {
    await this.connection.close()
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect' || status.type === 'close') this.#change(false)
      else if (status.type === 'reconnect') this.#change(true)
    }
  }

  #change(connected: boolean): void {
    if (this.#connected === connected) return
    this.#connected = connected
    if (connected) this.#options.onBack()
    else this.#options.onAway(new MeshError('UNAVAILABLE', 'the connection to the NATS server was lost'))
    for (const listener of this.#listeners) listener()
  }
}
