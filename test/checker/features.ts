import { type CheckedRecord, inLogOrder, jsonObject } from './record.ts'

/** A transaction as the checker reads it from its topic. */
export interface Transaction {
  readonly record: CheckedRecord
  readonly id: string
  readonly customer: number
  readonly terminal: number
  readonly amount: number
  readonly timeMs: number
}

interface Label {
  readonly timeMs: number
  readonly fraud: boolean
}

const dayMs = 86_400_000
const labelDelayMs = 7 * dayMs
const windowDays = [1, 7, 30]
const windowsMs = windowDays.map((days) => days * dayMs)

/** As the pipeline file names them, in the order of `Features.of`. */
export const featureNames: readonly string[] = [
  'amount',
  'weekend',
  'night',
  ...windowDays.flatMap((days) => [`customer_count_${days}d`, `customer_mean_${days}d`]),
  ...windowDays.flatMap((days) => [`terminal_count_${days}d`, `terminal_share_${days}d`]),
]

/** The transaction in `record`; undefined where it is not readable as one, and a dead letter is what it should have become. */
export function readTransaction(record: CheckedRecord): Transaction | undefined {
  const event = jsonObject(record)
  if (event === undefined) return undefined
  const { transaction_id: id, customer_id: customer, terminal_id: terminal, amount, tx_datetime: time } = event
  const timeMs = typeof time === 'number' ? time : typeof time === 'string' ? Date.parse(time) : Number.NaN
  const numbers = [customer, terminal, amount, timeMs]
  if ((typeof id !== 'number' && typeof id !== 'string') || !numbers.every((value) => typeof value === 'number' && Number.isFinite(value)))
    return undefined
  return { record, id: String(id), customer: customer as number, terminal: terminal as number, amount: amount as number, timeMs }
}

/**
 * The 15 features by the plainest means: for each window a walk through all that the key ever did.
 * `transactions` and `labels` are what was accepted into history: without dead letters, but for those that failed behind it.
 */
export class Features {
  readonly #byCustomer = new Map<number, Transaction[]>()
  readonly #byTerminal = new Map<number, Label[]>()

  constructor(transactions: readonly Transaction[], labels: readonly CheckedRecord[]) {
    for (const transaction of transactions) append(this.#byCustomer, transaction.customer, transaction)
    for (const record of inLogOrder(labels)) {
      const label = jsonObject(record)
      if (label === undefined) continue
      const timeMs = Date.parse(String(label['tx_datetime']))
      append(this.#byTerminal, Number(label['terminal_id']), { timeMs, fraud: label['fraud'] === true })
    }
  }

  /** amount, weekend, night, customer's count and mean of 1, 7, 30 days, terminal's count and share of fraud of 1, 7, 30 days a week ago. */
  of(transaction: Transaction): Float32Array {
    const { timeMs, record } = transaction
    const time = new Date(timeMs)
    // Monday is 0, so that 5 and 6 are the weekend.
    const weekday = (time.getUTCDay() + 6) % 7
    const values = [transaction.amount, weekday >= 5 ? 1 : 0, time.getUTCHours() <= 6 ? 1 : 0]
    for (const lengthMs of windowsMs) {
      let count = 0
      let sum = 0
      for (const other of this.#byCustomer.get(transaction.customer) ?? []) {
        // A replay must give the same numbers, so what lies behind the transaction on its partition does not count, whatever its time.
        const before = other.record.partition !== record.partition || other.record.offset <= record.offset
        if (!before || other.timeMs <= timeMs - lengthMs || other.timeMs > timeMs) continue
        count++
        sum += other.amount
      }
      values.push(count, count === 0 ? 0 : sum / count)
    }
    for (const lengthMs of windowsMs) {
      const until = timeMs - labelDelayMs
      const within = (this.#byTerminal.get(transaction.terminal) ?? []).filter(
        (label) => label.timeMs > until - lengthMs && label.timeMs <= until,
      )
      const frauds = within.filter((label) => label.fraud).length
      values.push(within.length, within.length === 0 ? 0 : frauds / within.length)
    }
    return Float32Array.from(values)
  }
}

function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [value])
  else list.push(value)
}
