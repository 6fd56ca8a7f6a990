import type { SeededRandom } from './random.ts'
import type { NewRecord } from './system.ts'

/** More than any event may have (`maxEventBytes`), and less than a topic takes. */
const hugeBytes = [300_000, 700_000]

/** Records that no service can read, each of its own: bad JSON, wrong types, values out of range, huge ones; some among the labels. */
export function poisonRecords(
  count: number,
  random: SeededRandom,
): readonly { readonly topic: 'transactions' | 'labels'; readonly record: NewRecord }[] {
  return Array.from({ length: count }, () => {
    const topic = random.chance(0.8) ? ('transactions' as const) : ('labels' as const)
    const key = String(random.between(0, 999))
    return { topic, record: { key, value: poisonValue(topic, key, random) } }
  })
}

function poisonValue(topic: 'transactions' | 'labels', key: string, random: SeededRandom): string {
  const number = 900_000_000 + random.between(0, 99_999_999)
  const common = { transaction_id: number, terminal_id: 1, tx_datetime: '2018-04-01T00:00:00.000Z' }
  const good = topic === 'transactions' ? { ...common, customer_id: Number(key), amount: 10 } : { ...common, fraud: false }
  const changed = (change: Record<string, unknown>): string => JSON.stringify({ ...good, ...change })
  const makers: readonly (() => string)[] = [
    () => changed({}).slice(0, random.between(1, 60)),
    () => `${changed({})}}`,
    () => `null${' '.repeat(random.between(0, 1000))}`,
    () => JSON.stringify([good]),
    () => `"${number}"`,
    () => `\u0000\u0001${number}`,
    () => changed({ transaction_id: 'number', again: number }),
    () => changed({ terminal_id: -1 }),
    () => changed({ terminal_id: undefined }),
    () => changed({ terminal_id: 1.5 }),
    () => changed({ tx_datetime: 'yesterday' }),
    () => changed({ tx_datetime: '2199-01-01T00:00:00Z' }),
    () => changed({ tx_datetime: null }),
    () => changed({ padding: 'x'.repeat(random.pick(hugeBytes)) }),
    ...(topic === 'transactions'
      ? [
          () => changed({ amount: 'ten' }),
          () => changed({ amount: -5 }),
          () => changed({ amount: undefined }),
          () => changed({ customer_id: {} }),
        ]
      : [() => changed({ fraud: 'no' }), () => changed({ fraud: undefined })]),
  ]
  return random.pick(makers)()
}
