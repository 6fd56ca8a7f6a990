import { textColumn } from '@spillway/core'
import type { Records } from '@spillway/bus'
import type { PlayEvent, Topic } from './play-list.ts'

/** The key that keeps a topic's events in order: a customer's transactions, a terminal's labels. */
export function eventKey(event: PlayEvent): string {
  return String(event.topic === 'transactions' ? event.transaction.customerId : event.transaction.terminalId)
}

/** The event as it lies on its topic. `tx_datetime` is RFC 3339 in UTC with milliseconds; a label carries its transaction's time. */
export function eventJson(event: PlayEvent): string {
  const { transactionId, customerId, terminalId, amount, timeMs, fraud } = event.transaction
  const transaction_id = transactionId
  const terminal_id = terminalId
  const tx_datetime = new Date(timeMs).toISOString()
  return event.topic === 'transactions'
    ? JSON.stringify({ transaction_id, customer_id: customerId, terminal_id, amount, tx_datetime })
    : JSON.stringify({ transaction_id, terminal_id, tx_datetime, fraud })
}

/** The events of one topic among `events`, as records in their order. */
export function topicRecords(events: readonly PlayEvent[], topic: Topic): Records {
  const own = events.filter((event) => event.topic === topic)
  return { count: own.length, keys: textColumn(own.map(eventKey)), values: textColumn(own.map(eventJson)) }
}
