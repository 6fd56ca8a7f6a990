import { numbered, simulateDay, type Transaction } from './simulator.ts'
import { dayMs, type World } from './world.ts'

export type Topic = 'transactions' | 'labels'

/** One event of the play list: a transaction when it happens, or its label when that becomes known. */
export interface PlayEvent {
  readonly topic: Topic
  /** When it is played, in simulated time, ms since the epoch. */
  readonly atMs: number
  readonly transaction: Transaction
}

/** Labels come at most this many days after their transaction. */
const longestLabelDelayDays = 6

/** Where a play list is entered: at a day's first event. `firstId` is the id of that day's first transaction. */
export interface PlayStart {
  readonly day: number
  readonly firstId: number
}

/** Transactions and labels in the order in which they become known, without end. Memory is that of a week. */
export function* playEvents(world: World, start: PlayStart = { day: 0, firstId: 0 }): Generator<PlayEvent> {
  const labelsByDay = new Map<number, PlayEvent[]>()
  const keepLabels = (transactions: readonly Transaction[]): void => {
    for (const transaction of transactions) {
      const dueDay = Math.floor((transaction.labelledAtMs - world.startMs) / dayMs)
      const due = labelsByDay.get(dueDay) ?? []
      if (due.length === 0) labelsByDay.set(dueDay, due)
      due.push({ topic: 'labels', atMs: transaction.labelledAtMs, transaction })
    }
  }
  for (const transactions of daysBefore(world, start)) keepLabels(transactions)
  let nextId = start.firstId
  for (let day = start.day; ; day++) {
    const transactions = numbered(simulateDay(world, day), nextId)
    nextId += transactions.length
    // A label waits for a day at least, so this day's are all here before the day begins.
    const labels = (labelsByDay.get(day) ?? []).sort(inPlayOrder)
    labelsByDay.delete(day)
    keepLabels(transactions)
    yield* merge(transactions, labels)
  }
}

/** The days whose labels may still be due on the first day. */
function* daysBefore(world: World, start: PlayStart): Generator<readonly Transaction[]> {
  let firstId = start.firstId
  for (let day = start.day - 1; day >= Math.max(0, start.day - longestLabelDelayDays - 1); day--) {
    const transactions = simulateDay(world, day)
    firstId -= transactions.length
    yield numbered(transactions, firstId)
  }
}

function inPlayOrder(a: PlayEvent, b: PlayEvent): number {
  return a.atMs - b.atMs || a.transaction.transactionId - b.transaction.transactionId
}

function* merge(transactions: readonly Transaction[], labels: readonly PlayEvent[]): Generator<PlayEvent> {
  let next = 0
  for (const transaction of transactions) {
    while (next < labels.length && labels[next]!.atMs <= transaction.timeMs) yield labels[next++]!
    yield { topic: 'transactions', atMs: transaction.timeMs, transaction }
  }
  while (next < labels.length) yield labels[next++]!
}
