import { readTransaction, type Transaction } from './features.ts'
import { type CheckedRecord, jsonObject } from './record.ts'
import { Collector } from './report.ts'

export interface Answer {
  readonly transaction: Transaction
  readonly record: CheckedRecord
  readonly prediction: Record<string, unknown>
}

export interface Answers {
  /** The readable inputs without a dead letter, in log order. */
  readonly answerable: readonly Transaction[]
  readonly matched: readonly Answer[]
  readonly lost: Collector
  readonly duplicated: Collector
  readonly unexpected: Collector
  readonly outOfOrder: Collector
}

/**
 * Pairs predictions with inputs by transaction id. Two inputs with one id are two records, and answered twice, in their order.
 * @param isDead whether an input became a dead letter
 */
export function matchAnswers(
  inputs: readonly CheckedRecord[],
  isDead: (input: CheckedRecord) => boolean,
  predictions: readonly CheckedRecord[],
): Answers {
  const lost = new Collector()
  const duplicated = new Collector()
  const unexpected = new Collector()
  const answerable: Transaction[] = []
  const waiting = new Map<string, Transaction[]>()
  const known = new Set<string>()
  for (const record of inputs) {
    const transaction = readTransaction(record)
    if (transaction !== undefined) known.add(transaction.id)
    if (isDead(record)) continue
    if (transaction === undefined) {
      lost.add(`unreadable input at ${record.partition}/${record.offset} has no dead letter`)
      continue
    }
    answerable.push(transaction)
    waiting.set(transaction.id, [...(waiting.get(transaction.id) ?? []), transaction])
  }
  const matched: Answer[] = []
  for (const record of predictions) {
    const prediction = jsonObject(record)
    const id = String(prediction?.['transaction_id'])
    const transaction = waiting.get(id)?.shift()
    if (prediction !== undefined && transaction !== undefined) matched.push({ transaction, record, prediction })
    else if (known.has(id)) duplicated.add(`transaction ${id} is answered again at ${record.partition}/${record.offset}`)
    else unexpected.add(`a prediction for transaction ${id} at ${record.partition}/${record.offset} has no input`)
  }
  for (const [id, left] of waiting)
    for (const { record } of left) lost.add(`transaction ${id} at ${record.partition}/${record.offset} has no answer`)
  return { answerable, matched, lost, duplicated, unexpected, outOfOrder: checkOrder(matched) }
}

/** Predictions of a customer by one tier follow the order of their inputs. Degraded ones come from the next tier's segment, in an order of their own. */
function checkOrder(matched: readonly Answer[]): Collector {
  const outOfOrder = new Collector()
  const last = new Map<string, Answer>()
  for (const answer of matched) {
    const { transaction, prediction, record } = answer
    const lane = `customer ${transaction.customer} tier ${String(prediction['tier'])}${prediction['degraded'] === true ? ' degraded' : ''}`
    const before = last.get(lane)
    last.set(lane, answer)
    if (before === undefined) continue
    const source = transaction.record
    const spread = before.record.partition !== record.partition
    const overtaken = before.transaction.record.partition === source.partition && before.transaction.record.offset > source.offset
    if (spread) outOfOrder.add(`${lane}: predictions on partitions ${before.record.partition} and ${record.partition}`)
    else if (overtaken) outOfOrder.add(`${lane}: transaction ${before.transaction.id} is answered before transaction ${transaction.id}`)
  }
  return outOfOrder
}
