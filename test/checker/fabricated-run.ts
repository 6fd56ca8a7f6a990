import { join } from 'node:path'
import type { Run } from './check.ts'
import { Features, readTransaction } from './features.ts'
import type { CheckedRecord } from './record.ts'
import { Cascade } from './scores.ts'

export const repository: string = join(import.meta.dirname, '../../examples/fraud/models')

const dayMs = 86_400_000
const startMs = Date.parse('2018-05-01T00:00:00.000Z')
const partitions = 2
const customers = 4
const tiers = [{ model: 'fraud-cheap', below: 0.005, above: 0.9 }, { model: 'fraud-heavy' }]

type Parts = { -readonly [K in keyof Pick<Run, 'predictions' | 'deadLetters'>]: CheckedRecord[] } & {
  alerts: CheckedRecord[]
  transactions: CheckedRecord[]
  labels: CheckedRecord[]
}

/** A faultless run of 160 transactions over 40 days, the last of which is malformed, as parts that a test may then spoil. */
export async function fabricate(): Promise<Parts> {
  const transactions: CheckedRecord[] = []
  const labels: CheckedRecord[] = []
  for (let id = 0; id < 160; id++) {
    const customer_id = id % customers
    const terminal_id = id % 3
    const partition = customer_id % partitions
    const tx_datetime = new Date(startMs + id * (dayMs / 4) + id).toISOString()
    const amount = id % 29 === 28 ? 400 : 10 + (id % 7) * 11.5
    const value =
      id === 159
        ? '{"transaction_id": 159, "amount": '
        : JSON.stringify({ transaction_id: id, customer_id, terminal_id, amount, tx_datetime })
    transactions.push({ partition, offset: 2 * Math.floor(id / partitions), key: String(customer_id), value, headers: {} })
    const label = { transaction_id: id, terminal_id, tx_datetime, fraud: terminal_id === 2 && id < 100 }
    if (id < 130)
      labels.push({ partition: terminal_id % partitions, offset: id, key: String(terminal_id), value: JSON.stringify(label), headers: {} })
  }
  const readable = transactions.map(readTransaction).filter((transaction) => transaction !== undefined)
  const features = new Features(readable, labels)
  const cascade = await Cascade.load(repository, tiers)
  const parts: Parts = { transactions, labels, predictions: [], alerts: [], deadLetters: [deadLetter(transactions.at(-1)!)] }
  for (const transaction of readable) {
    const right = (await cascade.answers(features.of(transaction), false))[0]!
    const decision = right.score >= 0.5
    const { partition, offset, key } = transaction.record
    const event = JSON.parse(transaction.record.value) as Record<string, unknown>
    const value = JSON.stringify({
      id: transaction.id,
      transaction_id: Number(transaction.id),
      amount: event['amount'],
      ...right,
      decision,
      degraded: false,
      model_version: '1',
      event_time: event['tx_datetime'],
    })
    const record = { partition, offset, key, value, headers: { ce_id: transaction.id } }
    parts.predictions.push(record)
    if (decision) parts.alerts.push(record)
  }
  await cascade.close()
  return parts
}

/** @param stage that it failed at */
export function deadLetter(original: CheckedRecord, stage = 'preprocessing.transactions'): CheckedRecord {
  const headers = {
    'spillway-code': 'INVALID_ARGUMENT',
    'spillway-message': 'the event is not JSON',
    'spillway-stage': stage,
    'spillway-source-topic': 'transactions',
    'spillway-source-partition': String(original.partition),
    'spillway-source-offset': String(original.offset),
  }
  return { partition: 0, offset: 0, key: original.key, value: original.value, headers }
}

export function runOf({ transactions, labels, predictions, deadLetters, alerts }: Parts): Run {
  const pipeline = {
    transactionsTopic: 'transactions',
    labelsTopic: 'labels',
    models: repository,
    tiers,
    alertAtLeast: 0.5,
    include: ['amount'],
  }
  return { inputs: { transactions, labels }, predictions, deadLetters, alerts, pipeline }
}

/** The record with fields of its JSON changed. */
export function changed(record: CheckedRecord, fields: Record<string, unknown>): CheckedRecord {
  return { ...record, value: JSON.stringify({ ...(JSON.parse(record.value) as object), ...fields }) }
}
