import { MeshError } from '@spillway/core'
import { type PlayEvent, playEvents, type Topic } from './play-list.ts'
import { type DayTransaction, simulateDay } from './simulator.ts'
import { dayMs, type World } from './world.ts'

/** The end of one partition of an input topic, oldest first. */
export interface Tail {
  readonly topic: Topic
  readonly values: readonly Uint8Array[]
  /** The tail begins at the earliest retained record. */
  readonly whole: boolean
}

export interface ResumePoint {
  /** Events of an interrupted batch that are not on their topics: to be published first, and alone, so that the next interruption can be told too. */
  readonly missing: readonly PlayEvent[]
  /** The play list from there on. */
  readonly events: Generator<PlayEvent>
  /** How many transactions the simulation has published before. */
  readonly transactionsBefore: number
  /** Simulated time of the newest event published, ms since the epoch; the first day's start where there is none. */
  readonly reachedMs: number
}

/**
 * Reads from what lies on the topics how far the play list was published. All events but the last `windowEvents` before the newest one found are
 * there, since batches of at most that size were published one after the other; of those last ones each is looked up. Records of
 * anybody else (an event published by hand) are told apart by comparing them with the simulation's day.
 * Undefined where the tails are too short to tell.
 */
export function resumeFrom(world: World, tails: readonly Tail[], windowEvents: number): ResumePoint | undefined {
  const days = new DayCache(world)
  const found = tails.map((tail) => ({
    tail,
    own: tail.values.map((value) => days.find(tail.topic, value)).filter((event) => event !== undefined),
  }))
  const newest = found
    .flatMap((each) => each.own)
    .reduce<OwnEvent | undefined>((latest, event) => (latest === undefined || event.atMs > latest.atMs ? event : latest), undefined)
  if (newest === undefined) {
    return tails.every((tail) => tail.whole)
      ? { missing: [], events: playEvents(world), transactionsBefore: 0, reachedMs: world.startMs }
      : undefined
  }
  const { events, played } = replay(world, days, newest, windowEvents)
  const doubtful = played.slice(-windowEvents)
  const oldestDoubtfulMs = doubtful[0]!.atMs
  if (found.some(({ tail, own }) => !tail.whole && !own.some((event) => event.atMs < oldestDoubtfulMs))) return undefined
  const present = new Set(found.flatMap((each) => each.own).map(identity))
  const missing = doubtful.filter((event) => !present.has(identity({ topic: event.topic, timeMs: event.transaction.timeMs })))
  const lastTransaction = played.findLast((event) => event.topic === 'transactions')?.transaction.transactionId ?? -1
  const missingTransactions = missing.filter((event) => event.topic === 'transactions').length
  return { missing, events, transactionsBefore: lastTransaction + 1 - missingTransactions, reachedMs: newest.atMs }
}

interface OwnEvent {
  readonly topic: Topic
  readonly timeMs: number
  readonly atMs: number
  /** Id of the first transaction of the transaction's day. */
  readonly firstId: number
  readonly day: number
}

/** Times are unique within the simulation. */
function identity(event: { readonly topic: Topic; readonly timeMs: number }): string {
  return `${event.topic}/${event.timeMs}`
}

/** The play list from days before the newest event, far enough that `windowEvents` of it precede that event, advanced to just behind it. */
function replay(
  world: World,
  days: DayCache,
  newest: OwnEvent,
  windowEvents: number,
): { events: Generator<PlayEvent>; played: PlayEvent[] } {
  let day = newest.day
  let firstId = newest.firstId
  let backwardEvents = 0
  // A day's label is due up to six days later: those days' transactions lie before the newest event too.
  while (day > 0 && backwardEvents < windowEvents) {
    day--
    const count = days.transactions(day).length
    firstId -= count
    backwardEvents += count
  }
  const events = playEvents(world, { day, firstId })
  const played: PlayEvent[] = []
  for (;;) {
    const event = events.next().value as PlayEvent
    played.push(event)
    if (event.atMs === newest.atMs && event.topic === newest.topic && event.transaction.timeMs === newest.timeMs) return { events, played }
  }
}

const decoder = new TextDecoder()

class DayCache {
  readonly #world: World
  readonly #days = new Map<number, { readonly list: readonly DayTransaction[]; readonly indexByTime: ReadonlyMap<number, number> }>()

  constructor(world: World) {
    this.#world = world
  }

  transactions(day: number): readonly DayTransaction[] {
    return this.#day(day).list
  }

  #day(day: number): { readonly list: readonly DayTransaction[]; readonly indexByTime: ReadonlyMap<number, number> } {
    let known = this.#days.get(day)
    if (known === undefined) {
      const list = simulateDay(this.#world, day)
      known = { list, indexByTime: new Map(list.map((transaction, index) => [transaction.timeMs, index])) }
      this.#days.set(day, known)
    }
    return known
  }

  /** The simulation's event that `value` is; undefined where somebody else published it. */
  find(topic: Topic, value: Uint8Array): OwnEvent | undefined {
    const record = parse(value)
    if (record === undefined) return undefined
    const timeMs = Date.parse(String(record['tx_datetime']))
    const day = Math.floor((timeMs - this.#world.startMs) / dayMs)
    // An event of one's own far from the simulation's days would only cost their simulation.
    if (!(day >= 0 && day < 100_000) || !Number.isInteger(record['transaction_id'])) return undefined
    const { list, indexByTime } = this.#day(day)
    const index = indexByTime.get(timeMs)
    const transaction = index === undefined ? undefined : list[index]
    if (index === undefined || transaction === undefined || transaction.terminalId !== record['terminal_id']) return undefined
    const same =
      topic === 'labels'
        ? transaction.fraud === record['fraud']
        : transaction.customerId === record['customer_id'] && transaction.amount === record['amount']
    if (!same) return undefined
    const atMs = topic === 'labels' ? transaction.labelledAtMs : timeMs
    return { topic, timeMs, atMs, firstId: (record['transaction_id'] as number) - index, day }
  }
}

function parse(value: Uint8Array): Record<string, unknown> | undefined {
  try {
    const record: unknown = JSON.parse(decoder.decode(value))
    return typeof record === 'object' && record !== null ? (record as Record<string, unknown>) : undefined
  } catch (thrown) {
    // Whatever else lies on the topic is not the simulation's; the pipeline makes a dead letter of it.
    if (thrown instanceof SyntaxError) return undefined
    throw MeshError.from(thrown)
  }
}
