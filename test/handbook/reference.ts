import { type Day, readReference } from './handbook-data.ts'

/** What differs between a computed feature and the reference's. */
export interface Mismatch {
  readonly transaction: number
  readonly customer: number
  readonly timeMs: number
  readonly feature: string
  readonly got: number
  readonly expected: number
}

/** How a run compares with the reference. */
export interface Comparison {
  /** Transactions of the reference whose features were compared. */
  readonly compared: number
  /** Transactions of the reference that got no features. */
  readonly missing: readonly number[]
  /** Transactions with a difference that a tie explains: pandas sorts a customer's transactions of one second in no defined order; here the log's order decides. */
  readonly ties: ReadonlySet<number>
  readonly unexplained: readonly Mismatch[]
}

/**
 * Means are FP32 here and 10 digits there, where the rolling sum leaves up to 1e-12 of what went out of the window behind; amounts are in cents, so no true
 * mean or share is below 1e-9. Counts and flags are equal or not.
 */
function agrees(got: number, expected: number): boolean {
  return Math.abs(got - expected) <= Math.max(1e-6 * Math.abs(expected), 1e-9)
}

/** Customers with more than one transaction in the same second, as `customer/timeMs`. */
function tiesOf(day: Day): ReadonlySet<string> {
  const seen = new Set<string>()
  const tied = new Set<string>()
  day.ids.forEach((_, row) => {
    const at = `${day.customers[row]}/${day.timesMs[row]}`
    if (seen.has(at)) tied.add(at)
    seen.add(at)
  })
  return tied
}

/**
 * Compares computed vectors with the reference's features of the same transactions.
 * @param names of the vector's elements, the amount first
 * @param vectorOf the transaction's vector; undefined where it has none
 * @param isSampled transactions to look at; all where absent
 */
export function compareWithReference(
  folder: string,
  days: readonly Day[],
  names: readonly string[],
  vectorOf: (transaction: number) => ArrayLike<number> | undefined,
  isSampled: (transaction: number) => boolean = () => true,
): Comparison {
  let compared = 0
  const missing: number[] = []
  const ties = new Set<number>()
  const unexplained: Mismatch[] = []
  for (const day of days) {
    const reference = readReference(folder, day.name)
    if (reference === undefined) continue
    const tied = tiesOf(day)
    for (let row = 0; row < day.ids.length; row++) {
      const transaction = day.ids[row]!
      if (!isSampled(transaction)) continue
      const vector = vectorOf(transaction)
      if (vector === undefined) {
        missing.push(transaction)
        continue
      }
      compared++
      const expected = [day.amounts[row]!, ...reference.get(transaction)!]
      names.forEach((feature, index) => {
        const got = vector[index]!
        if (agrees(got, expected[index]!)) return
        const customer = day.customers[row]!
        const timeMs = day.timesMs[row]!
        if (tied.has(`${customer}/${timeMs}`) && feature.startsWith('customer_')) ties.add(transaction)
        else unexplained.push({ transaction, customer, timeMs, feature, got, expected: expected[index]! })
      })
    }
  }
  return { compared, missing, ties, unexplained }
}

/** A line for the log of a run. */
export function comparisonText(what: string, { compared, missing, ties, unexplained }: Comparison): string {
  const rows = new Set(unexplained.map(({ transaction }) => transaction)).size
  return `${what}: ${compared} transactions compared, ${missing.length} without features, ${rows} differ, and ${ties.size} more by a tie within one second`
}
