import { setTimeout as wait } from 'node:timers/promises'
import { buildWorld, eventJson, eventKey, type PlayEvent, playEvents, smallSize } from '@spillway/example-fraud'
import type { Acknowledged } from '../checker/check.ts'
import { poisonRecords } from './poison.ts'
import type { SeededRandom } from './random.ts'
import type { NewRecord, System } from './system.ts'

/** About 1,500 transactions a day of simulated time: windows of 30 days are filled within minutes. */
const world = { ...smallSize, customers: 1000, terminals: 2000 }
const tickMs = 40
const maxBatchEvents = 400
/** What was not published while a broker was away is made up for, but no more than so much of it. */
const longestBacklogMs = 3000

/** Publishes the numbered events of a simulation at a steady rate, one batch after the other has been acknowledged, and remembers what it was told. */
export class Traffic {
  readonly acknowledged: Acknowledged[] = []
  /** When each transaction's publish was called, ms as `performance.now` has it, by its number. */
  readonly publishedMs: Map<number, number> = new Map()
  /** Where it was put, once that was acknowledged. */
  readonly partitionOf: Map<number, number> = new Map()
  /** Values that nothing can be made of. */
  readonly poison: Set<string> = new Set()
  /** Publishes whose outcome was not told, and which were made again. */
  retries = 0
  readonly #system: System
  readonly #ratePerS: number
  readonly #stop = new AbortController()
  readonly #abandoned = new AbortController()
  #running: Promise<void> | undefined

  /** @param ratePerS transactions; their labels come on top */
  constructor(system: System, ratePerS: number) {
    this.#system = system
    this.#ratePerS = ratePerS
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Resolves when what was begun is acknowledged. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  /** Ends without an acknowledgement of what was begun: of a run that ended before its time. Idempotent. */
  abandon(): void {
    this.#stop.abort()
    this.#abandoned.abort()
  }

  /** Publishes records among the good ones that no service can read. */
  async publishPoison(count: number, random: SeededRandom): Promise<void> {
    for (const { topic, record } of poisonRecords(count, random)) {
      this.poison.add(record.value)
      await this.#publish(topic, [record])
    }
  }

  async #run(): Promise<void> {
    const events = playEvents(buildWorld(world))
    let allowance = 0
    let lastMs = performance.now()
    while (!this.#stop.signal.aborted) {
      const nowMs = performance.now()
      allowance = Math.min(allowance + ((nowMs - lastMs) / 1000) * this.#ratePerS, (longestBacklogMs / 1000) * this.#ratePerS)
      lastMs = nowMs
      const batch = take(events, Math.min(Math.floor(allowance), maxBatchEvents))
      allowance -= batch.filter(({ topic }) => topic === 'transactions').length
      const publishedMs = performance.now()
      for (const { topic, transaction } of batch) if (topic === 'transactions') this.publishedMs.set(transaction.transactionId, publishedMs)
      await Promise.all(
        (['transactions', 'labels'] as const).map((topic) =>
          this.#publishEvents(
            topic,
            batch.filter((event) => event.topic === topic),
          ),
        ),
      )
      await wait(tickMs)
    }
  }

  async #publishEvents(topic: 'transactions' | 'labels', events: readonly PlayEvent[]): Promise<void> {
    if (events.length === 0) return
    const places = await this.#publish(
      topic,
      events.map((event) => ({ key: eventKey(event), value: eventJson(event) })),
    )
    if (topic === 'transactions')
      for (const [index, { partition }] of places.entries()) this.partitionOf.set(events[index]!.transaction.transactionId, partition)
  }

  /** Again until it is acknowledged: a record may then lie there twice, and be answered twice. @returns where they lie; nothing where that was given up */
  async #publish(topic: 'transactions' | 'labels', records: readonly NewRecord[]): Promise<readonly Acknowledged[]> {
    while (!this.#abandoned.signal.aborted) {
      try {
        const places = await this.#system.publish(topic, records)
        this.acknowledged.push(...places)
        return places
      } catch {
        // A server that is away is what is tried here; a refusal that lasts ends the run as stuck.
        this.retries++
        await wait(100)
      }
    }
    return []
  }
}

/** The events up to the next `transactions` transactions. */
function take(events: Generator<PlayEvent>, transactions: number): PlayEvent[] {
  const batch: PlayEvent[] = []
  for (let left = transactions; left > 0;) {
    const event = events.next().value as PlayEvent
    if (event.topic === 'transactions') left--
    batch.push(event)
  }
  return batch
}
