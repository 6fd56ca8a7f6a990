import type { AbortedTransaction } from './fetch-request.ts'
import type { FetchedMessage } from './kafkajs-cluster.ts'

/**
 * Leaves out control records and those of aborted transactions. A transaction's records are aborted from its first offset to its producer's next
 * control record (Kafka protocol, Fetch: aborted_transactions). The broker lists them by where they ended, so they are put in order first:
 * kafkajs's own filter does not, and lets records of overlapping aborted transactions through.
 */
export function visible(
  messages: readonly FetchedMessage[],
  abortedTransactions: readonly AbortedTransaction[],
  from: bigint,
): readonly FetchedMessage[] {
  const aborted = abortedTransactions.toSorted((a, b) => Number(a.firstOffset - b.firstOffset))
  if (messages.length === 0) return messages
  if (aborted.length === 0 && BigInt(messages[0]!.offset) >= from) return messages.filter((message) => !message.isControlRecord)
  const open = new Set<string>()
  let entered = 0
  return messages.filter((message) => {
    const offset = BigInt(message.offset)
    for (; entered < aborted.length && aborted[entered]!.firstOffset <= offset; entered++) open.add(aborted[entered]!.producerId)
    const { producerId, inTransaction } = message.batchContext
    if (message.isControlRecord) open.delete(producerId)
    else if (offset >= from && !(inTransaction && open.has(producerId))) return true
    return false
  })
}
