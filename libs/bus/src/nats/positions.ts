import { randomBytes } from 'node:crypto'
import type { KV } from '@nats-io/kv'
import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { isConflict, isServerAway, natsError } from './errors.ts'
import type { NatsLink } from './link.ts'
import { positionsBucket } from './names.ts'
import { decodeOutbox, encodeOutbox } from './outbox.ts'
import type { Outgoing } from './lane.ts'

/** A group's position on a partition, as it is kept: one line of JSON, and the outputs behind it. */
interface StoredPosition {
  /** First offset not yet committed. */
  readonly next: string
  readonly stamp?: string
  readonly note?: string
  /** The member that wrote it. */
  readonly owner?: string
  /** Of this write: what its outputs' message ids begin with. */
  readonly token?: string
  /** Where the outputs do not fit behind the line: how many entries `<key>.<owner>.<n>` hold them. */
  readonly chunks?: number
}

export interface Position {
  readonly next: bigint
  readonly stamp: string | undefined
  readonly note?: string | undefined
}

export interface FoundPosition extends Position {
  readonly revision: number
  /** Committed with it, and perhaps not all in their streams yet. */
  readonly outputs: readonly Outgoing[]
  /** When it was written; ms since the epoch, the server's clock. */
  readonly writtenMs: number
}

/** Another owner has written the position. */
export class FencedError extends MeshError {
  constructor(key: string) {
    super('ABORTED', `the position "${key}" was written by another: the partition went to another owner`)
  }
}

/** What the first line of an entry and its headers may take of a message. */
const reserveBytes = 4096

/** Positions of one group member, each written only where nobody else has written it since. */
export class Positions {
  readonly #link: NatsLink
  readonly #bucket: KV
  readonly #owner: string

  constructor(link: NatsLink, bucket: KV, owner: string) {
    this.#link = link
    this.#bucket = bucket
    this.#owner = owner
  }

  /** Undefined where the group has none. @throws MeshError */
  async read(key: string): Promise<FoundPosition | undefined> {
    const entry = await this.#link.request(() => this.#bucket.get(key))
    if (entry === null || entry.operation !== 'PUT') return undefined
    const { position, rest } = parse(entry.value, key)
    const { revision, created } = entry
    const outbox = position.chunks === undefined ? rest : await this.#readChunks(key, position)
    return {
      next: BigInt(position.next),
      stamp: position.stamp,
      note: position.note,
      revision,
      outputs: outbox.length === 0 ? [] : decodeOutbox(outbox, position.token ?? ''),
      writtenMs: created.getTime(),
    }
  }

  /**
   * Commits: the position and the outputs, in one entry. What is written is repeated until its outcome is known or the signal fires.
   * @param revision of the entry that it replaces, 0 for none
   * @returns the entry's revision, and the outputs with their ids
   * @throws FencedError where another has written since, nothing is committed then
   */
  async write(
    key: string,
    revision: number,
    { next, stamp, note }: Position,
    outputs: readonly Omit<Outgoing, 'id'>[],
    signal: AbortSignal,
  ): Promise<{ readonly revision: number; readonly outputs: readonly Outgoing[] }> {
    const token = randomBytes(12).toString('base64url')
    const outbox = encodeOutbox(outputs)
    const limit = this.#link.maxPayloadBytes - reserveBytes
    const chunks = outbox.length > limit ? Math.ceil(outbox.length / limit) : undefined
    const line: StoredPosition = {
      next: String(next),
      ...(stamp !== undefined && { stamp }),
      ...(note !== undefined && { note }),
      owner: this.#owner,
      ...(outputs.length > 0 && { token }),
      ...(chunks !== undefined && { chunks }),
    }
    if (chunks !== undefined) await this.#writeChunks(key, outbox, limit, signal)
    const head = Buffer.from(`${JSON.stringify(line)}\n`)
    const value = chunks === undefined ? Buffer.concat([head, outbox]) : head
    return {
      revision: await this.#replace(key, revision, value, signal),
      outputs: outputs.map((output, i) => ({ ...output, id: `${token}.${i}` })),
    }
  }

  async #replace(key: string, revision: number, value: Buffer, signal: AbortSignal): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#link.request(() => this.#bucket.put(key, value, { previousSeq: revision }))
      } catch (error) {
        if (!isConflict(error) && !isServerAway(error)) throw natsError(error, `committing "${key}"`)
        // An answer that was lost: the write may be there.
        if (attempt > 1 || !isConflict(error)) {
          const found = await this.#link.request(() => this.#bucket.get(key)).catch(() => undefined)
          if (found?.revision !== revision && found && Buffer.compare(Buffer.from(found.value), value) === 0) return found.revision
        }
        if (isConflict(error)) throw new FencedError(key)
        await pause(backoffMs(attempt, 1000), signal)
        await this.#link.untilConnected(signal)
        if (signal.aborted) throw natsError(error, `committing "${key}"`)
      }
    }
  }

  async #writeChunks(key: string, outbox: Buffer, limit: number, signal: AbortSignal): Promise<void> {
    for (let i = 0; i * limit < outbox.length; i++) {
      for (let attempt = 1; ; attempt++) {
        try {
          await this.#link.request(() => this.#bucket.put(`${key}.${this.#owner}.${i}`, outbox.subarray(i * limit, (i + 1) * limit)))
          break
        } catch (error) {
          if (!isServerAway(error) || signal.aborted) throw natsError(error, `committing "${key}"`)
          await pause(backoffMs(attempt, 1000), signal)
        }
      }
    }
  }

  async #readChunks(key: string, { owner, chunks = 0 }: StoredPosition): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for (let i = 0; i < chunks; i++) {
      const entry = await this.#link.request(() => this.#bucket.get(`${key}.${owner}.${i}`))
      if (entry === null) throw new MeshError('DATA_LOSS', `part ${i} of the outputs committed with position "${key}" is missing`)
      parts.push(entry.value)
    }
    return Buffer.concat(parts)
  }

  /** Removes the parts of outputs that owners before this one have left; the position no longer names them. */
  async dropChunks(key: string): Promise<void> {
    await this.#link.request(() => this.#link.manager.streams.purge(`KV_${positionsBucket}`, { filter: `$KV.${positionsBucket}.${key}.>` }))
  }
}

function parse(value: Uint8Array, key: string): { readonly position: StoredPosition; readonly rest: Uint8Array } {
  const end = value.indexOf(10)
  try {
    const position = JSON.parse(Buffer.from(end < 0 ? value : value.subarray(0, end)).toString()) as StoredPosition
    BigInt(position.next)
    return { position, rest: end < 0 ? new Uint8Array(0) : value.subarray(end + 1) }
  } catch (error) {
    throw new MeshError('DATA_LOSS', `the position "${key}" in bucket ${positionsBucket} cannot be read`, { cause: error })
  }
}
