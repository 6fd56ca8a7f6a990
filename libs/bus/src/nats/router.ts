import { MeshError } from '@spillway/core'
import type { Records, Write } from '../port.ts'
import { checkRecords, choosePartitions, type RoundRobin } from '../records.ts'
import type { NatsLink } from './link.ts'
import { encodeRecord } from './messages.ts'
import { streamOf, subjectOf } from './names.ts'
import type { NatsTopics } from './topics.ts'
import type { Outgoing } from './lane.ts'

/** Of a message, what is left for its id and the marks around its headers. */
const overheadBytes = 256

/** Writes as messages, checked as a whole: where one is refused none is made. */
export class Router {
  readonly #link: NatsLink
  readonly #topics: NatsTopics
  readonly maxRecordBytes: number
  readonly #turns = new Map<string, RoundRobin>()

  constructor(link: NatsLink, topics: NatsTopics, maxRecordBytes: number) {
    this.#link = link
    this.#topics = topics
    this.maxRecordBytes = maxRecordBytes
  }

  /** Each record's message and partition. @throws MeshError NOT_FOUND for an unknown topic, INVALID_ARGUMENT for a partition that is not there or a record over the limit */
  async route({
    topic,
    partition,
    records,
  }: Write): Promise<{ readonly messages: Omit<Outgoing, 'id'>[]; readonly partitions: ArrayLike<number> }> {
    const count = await this.#topics.partitions(topic)
    if (partition !== undefined && !(partition >= 0 && partition < count))
      throw new MeshError('INVALID_ARGUMENT', `topic "${topic}" has no partition ${partition}: it has ${count}`, { field: 'partition' })
    checkRecords(records, this.maxRecordBytes)
    let turn = this.#turns.get(topic)
    if (turn === undefined) this.#turns.set(topic, (turn = { next: 0 }))
    const partitions = partition === undefined ? choosePartitions(records, count, turn) : new Int32Array(records.count).fill(partition)
    const places = Array.from({ length: count }, (_, to) => ({ stream: streamOf(topic, to), subject: subjectOf(topic, to) }))
    return { messages: Array.from(partitions, (to, index) => this.#message(places[to]!, records, index)), partitions }
  }

  #message(place: { readonly stream: string; readonly subject: string }, records: Records, index: number): Omit<Outgoing, 'id'> {
    const wire = encodeRecord(records, index)
    const bytes = wire.payload.length + Buffer.byteLength(wire.headers) + overheadBytes
    if (bytes > this.#link.maxPayloadBytes)
      throw new MeshError(
        'INVALID_ARGUMENT',
        `record ${index} is a message of ${bytes} bytes, expected at most ${this.#link.maxPayloadBytes} (the server's max_payload)`,
        { field: `records[${index}]` },
      )
    return { stream: place.stream, subject: place.subject, headers: wire.headers, payload: wire.payload }
  }
}
