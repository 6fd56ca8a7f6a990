import { type Bus, keyPartition } from '@spillway/bus'
import { bytesAt } from '@spillway/core'
import { type IHeaders, Kafka, logLevel, Partitioners } from 'kafkajs'
import type { CheckedRecord } from '../checker/record.ts'
import { fraudEvents, type FraudNames, topicRecords } from './fraud-run.ts'
import { malformedCloudEvents, strangeButGood } from './malformed-cloudevents.ts'
import { malformedFields, malformedLabels, malformedTransactions } from './malformed-fields.ts'
import { malformedJson } from './malformed-json.ts'
import type { Fields, Kind, Sent } from './malformed-kinds.ts'

type Topic = 'transactions' | 'labels'

/** A record where it lies, with what is known of it. */
export interface Planned {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly key: string
  readonly value: Buffer | null
  readonly headers?: IHeaders
  /** The event without its clothes; undefined where there is none to be answered. */
  readonly plain?: string
  readonly malformed?: Kind
}

export const partitions = 8

const malformedOf: Readonly<Record<Topic, readonly Kind[]>> = {
  transactions: [...malformedJson, ...malformedFields, ...malformedTransactions, ...malformedCloudEvents],
  labels: [...malformedJson, ...malformedFields, ...malformedLabels, ...malformedCloudEvents],
}

/** A good event in every so many is sent in strange clothes. */
const strangeEvery = 29

/**
 * The first so many transactions and their labels, with malformed records evenly among them: of each kind `ofEachKind` to a topic, each a copy of the
 * good event before it that was spoilt, on that one's partition, with an id that no other event has.
 */
export function plan(names: FraudNames, transactions: number, ofEachKind: number): readonly Planned[] {
  const events = fraudEvents(transactions)
  return (['transactions', 'labels'] as const).flatMap((topic) => {
    const { count, keys, values } = topicRecords(events, topic)
    const kinds = Array.from({ length: ofEachKind }, () => malformedOf[topic]).flat()
    const planned: Planned[] = []
    const ends = new Int32Array(partitions)
    const add = (key: string, sent: Sent, known: Pick<Planned, 'plain' | 'malformed'>): void => {
      const partition = keyPartition(Buffer.from(key), partitions)
      const value = sent.value === null ? null : Buffer.from(sent.value)
      const place = { topic: names[topic], partition, offset: ends[partition]!++ }
      planned.push({ ...place, key, value, ...(sent.headers && { headers: sent.headers }), ...known })
    }
    for (let row = 0; row < count; row++) {
      const key = Buffer.from(bytesAt(keys!, row)).toString()
      const plain = Buffer.from(bytesAt(values, row)).toString()
      const good = JSON.parse(plain) as Fields
      const strange = row % strangeEvery === 0 ? strangeButGood[(row / strangeEvery) % strangeButGood.length]! : undefined
      add(key, strange?.(good) ?? { value: plain }, { plain })
      const done = Math.floor((row * kinds.length) / count)
      for (const malformed of kinds.slice(done, Math.floor(((row + 1) * kinds.length) / count))) {
        const sent = malformed.make({ ...good, transaction_id: 900_000_000 + planned.length })
        add(sent.key ?? key, sent, { malformed })
      }
    }
    return planned
  })
}

/** A request holds less than a topic takes at once. */
const maxRequestBytes = 600_000

/** Sends the records as any producer would, in their order. */
export async function send(brokers: readonly string[], planned: readonly Planned[]): Promise<void> {
  const kafka = new Kafka({ clientId: 'malformed', brokers: [...brokers], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let start = 0, end = 0; start < planned.length; start = end) {
    for (let bytes = 0; end < planned.length && end - start < 500 && (end === start || bytes < maxRequestBytes); end++)
      bytes += size(planned[end]!)
    // The last one took it over the limit.
    if (end - start > 1 && size(planned[end - 1]!) > maxRequestBytes / 2) end--
    const topics = Map.groupBy(planned.slice(start, end), ({ topic }) => topic)
    await producer.sendBatch({
      topicMessages: Array.from(topics, ([topic, messages]) => ({
        topic,
        messages: messages.map(({ key, value, partition, headers }) => ({ key, value, partition, ...(headers && { headers }) })),
      })),
    })
  }
  await producer.disconnect()
}

function size({ key, value, headers }: Planned): number {
  return key.length + (value?.length ?? 0) + JSON.stringify(headers ?? {}).length
}

/** The plan as the checker reads inputs: what a good event says, whatever its clothes. */
export function inputsOf(planned: readonly Planned[]): Readonly<Record<string, readonly CheckedRecord[]>> {
  const records = Map.groupBy(planned, ({ topic }) => topic)
  return Object.fromEntries(
    Array.from(records, ([topic, of]) => [
      topic,
      of.map(({ partition, offset, key, value, plain }) => ({ partition, offset, key, value: plain ?? value?.toString() ?? '' })),
    ]),
  )
}

export interface Letter {
  readonly value: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/** All dead letters that lie on the topic now, byte for byte. */
export async function lettersOn(bus: Bus, topic: string): Promise<readonly Letter[]> {
  const ranges = (await bus.topics.offsets(topic)).filter(({ earliest, end }) => end > earliest)
  const letters: Letter[] = []
  if (ranges.length === 0) return letters
  const until = new Map(ranges.map(({ partition, end }) => [partition, end]))
  for await (const { records } of bus.subscribe({
    topic,
    from: 'earliest',
    until,
    maxSliceRecords: 100,
    signal: AbortSignal.timeout(60_000),
  }))
    for (let row = 0; row < records.count; row++)
      letters.push({ value: Buffer.from(bytesAt(records.values, row)), headers: records.headers?.[row] ?? {} })
  return letters
}

/** What is wrong with the letters: each malformed record has one that holds its bytes and says what was wrong with it; no other record has any. */
export function wrongLetters(planned: readonly Planned[], letters: readonly Letter[]): readonly string[] {
  const places = new Map(planned.map((record) => [placeOf(record), record]))
  const bySource = Map.groupBy(letters, ({ headers }) =>
    [headers['spillway-source-topic'], headers['spillway-source-partition'], headers['spillway-source-offset']].join('/'),
  )
  const wrong: string[] = []
  for (const [source, of] of bySource)
    if (places.get(source)?.malformed === undefined)
      wrong.push(`${source} was good, and became a dead letter: ${of[0]!.headers['spillway-message']}`)
  for (const [place, { malformed, value }] of places) {
    if (malformed === undefined) continue
    const of = bySource.get(place) ?? []
    const named = `"${malformed.name}" at ${place}`
    if (of.length !== 1) wrong.push(`${named} has ${of.length} dead letters`)
    for (const letter of of) wrong.push(...wrongLetter(malformed, value, letter).map((what) => `${named} ${what}`))
  }
  return wrong
}

function wrongLetter({ code, field, says }: Kind, value: Buffer | null, letter: Letter): readonly string[] {
  const said = letter.headers
  const message = said['spillway-message'] ?? ''
  return [
    ...(said['spillway-code'] === code ? [] : [`has the code ${said['spillway-code']} instead of ${code}`]),
    ...(said['spillway-field'] === field ? [] : [`names the field ${said['spillway-field']} instead of ${field}`]),
    ...(says.test(message) ? [] : [`says "${message.slice(0, 200)}", which does not match ${String(says)}`]),
    ...(letter.value.equals(value ?? Buffer.alloc(0)) ? [] : ['does not hold the bytes that were sent']),
  ]
}

export function placeOf({ topic, partition, offset }: Pick<Planned, 'topic' | 'partition' | 'offset'>): string {
  return `${topic}/${partition}/${offset}`
}
