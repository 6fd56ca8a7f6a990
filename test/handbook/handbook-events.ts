import { type Bus, type Records, sliceRecords } from '@spillway/bus'
import { textColumn } from '@spillway/core'
import type { Day } from './handbook-data.ts'

/** Events that no history goes back to any more, put behind all others: each has to become a dead letter. */
export const tooLateEach = 20
const tooLateId = 9_000_000_000

const dayMs = 86_400_000
const chunkEvents = 4000

/** A label becomes known one to six days after its transaction, whatever came before it: labels are up to five days out of order. */
function knownAtMs(day: Day, row: number): number {
  // Spread evenly by the golden ratio, the same in every run.
  return day.timesMs[row]! + dayMs * (1 + 5 * ((day.ids[row]! * 0.618_033_988_749_895) % 1))
}

export function transactionJson(day: Day, row: number): string {
  const time = new Date(day.timesMs[row]!).toISOString()
  return `{"transaction_id":${day.ids[row]},"customer_id":${day.customers[row]},"terminal_id":${day.terminals[row]},"amount":${day.amounts[row]},"tx_datetime":"${time}"}`
}

function labelJson(day: Day, row: number): string {
  const time = new Date(day.timesMs[row]!).toISOString()
  return `{"transaction_id":${day.ids[row]},"terminal_id":${day.terminals[row]},"tx_datetime":"${time}","fraud":${day.frauds[row] === 1}}`
}

interface Event {
  readonly key: string
  readonly value: string
}

/** Transactions in their order, then those that are too late. */
export function* transactionEvents(days: readonly Day[], isLeftOut: (day: Day, row: number) => boolean = () => false): Generator<Event> {
  for (const day of days)
    for (let row = 0; row < day.ids.length; row++)
      if (!isLeftOut(day, row)) yield { key: String(day.customers[row]), value: transactionJson(day, row) }
  yield* tooLate(days, (day, row) => ({ key: String(day.customers[row]), value: transactionJson(day, row) }))
}

/** Labels in the order in which they become known, then those that are too late. */
export function* labelEvents(days: readonly Day[]): Generator<Event> {
  const places: { readonly day: Day; readonly row: number; readonly atMs: number }[] = []
  let done = 0
  for (const day of days) {
    for (let row = 0; row < day.ids.length; row++) places.push({ day, row, atMs: knownAtMs(day, row) })
    // What is known before the next day begins can no longer be overtaken.
    const untilMs = Date.parse(`${day.name}T00:00:00Z`) + dayMs
    const due = places.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)
    done += due.length
    const left = places.filter(({ atMs }) => atMs > untilMs)
    places.length = 0
    places.push(...left)
    for (const place of due) yield { key: String(place.day.terminals[place.row]), value: labelJson(place.day, place.row) }
  }
  for (const place of places.sort((a, b) => a.atMs - b.atMs))
    yield { key: String(place.day.terminals[place.row]), value: labelJson(place.day, place.row) }
  yield* tooLate(days, (day, row) => ({ key: String(day.terminals[row]), value: labelJson(day, row) }))
}

/** The first day's events once more, with ids of their own. */
function* tooLate(days: readonly Day[], event: (day: Day, row: number) => Event): Generator<Event> {
  const [first] = days
  for (let row = 0; row < tooLateEach; row++) yield event({ ...first!, ids: first!.ids.map((_, index) => tooLateId + index) }, row)
}

function recordsOf(events: readonly Event[]): Records {
  return { count: events.length, keys: textColumn(events.map(({ key }) => key)), values: textColumn(events.map(({ value }) => value)) }
}

/** Publishes events in their order. @returns how many */
export async function publishEvents(bus: Bus, topic: string, events: Iterable<Event>): Promise<number> {
  let chunk: Event[] = []
  let count = 0
  const flush = async (): Promise<void> => {
    const records = recordsOf(chunk)
    for (let start = 0; start < records.count; start += chunkEvents)
      await bus.publish(topic, sliceRecords(records, start, Math.min(records.count, start + chunkEvents)))
    count += chunk.length
    chunk = []
  }
  for (const event of events) {
    chunk.push(event)
    if (chunk.length === chunkEvents) await flush()
  }
  await flush()
  return count
}
