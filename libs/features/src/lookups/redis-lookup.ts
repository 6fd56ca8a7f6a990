import { MeshError } from '@spillway/core'
import { RedisConnection } from '../redis/connection.ts'
import { redisError, whileRunning } from '../redis/errors.ts'
import { keySeparator } from './key-parts.ts'
import { rowsOf } from './found-rows.ts'
import type { PlannedLookup } from './plan.ts'
import type { LookupLogger, LookupRows, LookupSource } from './source.ts'
import { UniqueKeys } from './unique-keys.ts'
import { ValueColumns } from './value-columns.ts'

export interface RedisLookupOptions {
  readonly lookup: PlannedLookup
  /** Key of the hash, with a placeholder for each of the key's fields. */
  readonly pattern: string
  readonly url: string
  /** For the answer to a whole slice. */
  readonly timeoutMs?: number
  readonly logger?: LookupLogger | undefined
}

/** Redis hashes that another job writes, one a key. A slice is one round trip. */
export class RedisLookup implements LookupSource {
  private readonly lookup: PlannedLookup
  private readonly connection: RedisConnection
  /** The pattern without its placeholders, and for each of these which part of the key stands there. */
  private readonly texts: readonly string[]
  private readonly parts: readonly number[]
  private readonly fields: readonly string[]

  constructor({ lookup, pattern, url, timeoutMs = defaultTimeoutMs, logger }: RedisLookupOptions) {
    this.lookup = lookup
    const pieces = pattern.split(/\{([^{}]*)\}/)
    this.texts = pieces.filter((_, index) => index % 2 === 0)
    this.parts = pieces.filter((_, index) => index % 2 === 1).map((field) => Math.max(lookup.keyFields.indexOf(field), 0))
    this.fields = [...lookup.values.map(({ name }) => name), ...(lookup.timeColumn === undefined ? [] : [lookup.timeColumn])]
    try {
      this.connection = new RedisConnection({ url, timeoutMs, ...(logger !== undefined && { logger }) })
    } catch (thrown) {
      throw new MeshError('INVALID_ARGUMENT', (thrown as MeshError).message, { field: `lookups.${lookup.title}.url` })
    }
  }

  /** Waits for a server that is away. @throws MeshError that another attempt cannot cure, or UNAVAILABLE when the signal fires */
  async start(signal: AbortSignal): Promise<void> {
    await this.connection.open(signal)
  }

  drain(): Promise<void> {
    this.connection.close()
    return Promise.resolve()
  }

  async read(keys: readonly string[]): Promise<LookupRows> {
    const { lookup } = this
    const unique = new UniqueKeys(keys)
    const columns = new ValueColumns(lookup.values, lookup.timeColumn !== undefined, unique.count)
    const wrong = new Map<number, MeshError>()
    const hashes = unique.firstRows.map((row) => this.hashOf(keys[row]!))
    const answers =
      hashes.length === 0
        ? []
        : await this.connection
            .sendAll(
              'HMGET',
              hashes.map((hash) => [hash, ...this.fields]),
            )
            .catch(waiting)
    answers.forEach((answer, index) => {
      const error = this.take(answer, index, hashes[index]!, columns)
      if (error !== undefined) wrong.set(index, error)
    })
    return rowsOf(unique, columns, wrong)
  }

  /** @returns what is wrong with the hash @throws MeshError where the server refuses for another reason */
  private take(answer: unknown, index: number, hash: string, columns: ValueColumns): MeshError | undefined {
    const field = `features.lookups.${this.lookup.title}`
    if (answer instanceof MeshError) {
      const refusal = whileRunning(answer)
      if (refusal.code !== 'FAILED_PRECONDITION') throw refusal
      return new MeshError('FAILED_PRECONDITION', `${hash} in Redis at ${this.connection.address} is no hash`, { field, cause: answer })
    }
    const message = columns.set(index, answer as readonly unknown[], this.lookup.timeColumn)
    return message === undefined
      ? undefined
      : new MeshError('FAILED_PRECONDITION', `${hash} in Redis at ${this.connection.address}: ${message}`, { field })
  }

  private hashOf(key: string): string {
    const parts = key.split(keySeparator)
    return this.texts.reduce((name, text, index) => `${name}${parts[this.parts[index - 1]!]}${text}`)
  }
}

const defaultTimeoutMs = 2000

/** What an operator can mend while the pipeline runs is no reason to give rows up. */
function waiting(thrown: unknown): never {
  throw whileRunning(redisError(thrown, ''))
}
