import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { EmbeddedHistoryStore, FeatureEngine, type FeaturePlan } from '@spillway/features'
import { loadPipeline } from '@spillway/mesh'
import { type FeatureSlice, SliceFeed } from './feature-slices.ts'
import { alternate, percentile, writeResult } from './rounds.ts'

/** Windows reach 37 days back, and histories keep a week more. */
const historyDays = 44
const daysARound = 3
/** Next to nothing: every slice's keys come from the file. */
const coldCacheBytes = 64 * 1024
const smallestCached = 60_000
const smallestCold = 20_000
const mostPackedBytes = 2048

interface Running {
  readonly store: EmbeddedHistoryStore
  readonly engine: FeatureEngine
}

/** The fraud features on the embedded store, its keys in memory and from disk, against a bare walk in memory and bare reads of the same rows. */
export async function benchFeaturesEmbedded(rounds: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-features-'))
  const { features: plan } = await loadPipeline(fileURLToPath(new URL('../../examples/fraud/pipeline.yaml', import.meta.url)))
  const feed = new SliceFeed()
  const filled = feed.untilDay(historyDays)
  const cachedPath = join(folder, 'cached.db')
  const coldPath = join(folder, 'cold.db')
  const filling = await open(plan, cachedPath)
  await computeAll(filling, filled)
  await filling.store.drain()
  const packed = packedBytes(cachedPath)
  copyFileSync(cachedPath, coldPath)
  const cached = await open(plan, cachedPath)
  const cold = await open(plan, coldPath, coldCacheBytes)
  const bareReads = new DatabaseSync(coldPath, { readOnly: true })
  const walk = new BareWalk()
  for (const slice of filled) walk.take(slice)

  let slices: FeatureSlice[] = []
  let day = historyDays
  const next = (): void => {
    day += daysARound
    slices = feed.untilDay(day)
  }
  next()
  await computeAll(cached, slices)
  await computeAll(cold, slices)
  for (const slice of slices) walk.take(slice)
  const figures = await alternate(rounds, [
    {
      name: 'keys in memory',
      run: () => {
        next()
        return rate(slices, () => computeAll(cached, slices))
      },
    },
    { name: 'keys from disk', run: () => rate(slices, () => computeAll(cold, slices)) },
    {
      name: 'bare walk in memory, nothing kept',
      run: () =>
        rate(slices, () => {
          for (const slice of slices) walk.take(slice)
        }),
    },
    { name: 'bare reads of the rows', run: () => rate(slices, () => readRows(bareReads, slices)) },
  ])
  bareReads.close()
  await cached.store.drain()
  await cold.store.drain()
  rmSync(folder, { recursive: true })
  const [inMemory, fromDisk] = [figures[0]!.median, figures[1]!.median]
  const largestMean = Math.max(...packed.map(({ mean }) => mean))
  const largestP99 = Math.max(...packed.map(({ p99 }) => p99))
  writeResult({
    benchmark: 'features-embedded',
    unit: 'events/s',
    setup: `15 fraud features, 5,000 customers and 10,000 terminals, ${historyDays} days of history, embedded store on a file, slices of 1,000 of 8 partitions one after the other, ${daysARound} days of transactions and labels a round. From disk: a cache of ${coldCacheBytes / 1024} KiB, so that each slice loads its keys and packs them again. Bare walk: arrays a key, the same six windows, no store. Bare reads: the rows of each slice's keys, one SELECT a key, not unpacked.`,
    figures,
    target: `≥ ${smallestCached.toLocaleString('en')} events/s with keys in memory, ≥ ${smallestCold.toLocaleString('en')} from disk, ≤ 2 KB a key packed`,
    reached: `${Math.round(inMemory).toLocaleString('en')} and ${Math.round(fromDisk).toLocaleString('en')} events/s, ${Math.round(largestMean)} bytes a key (p99 ${largestP99})`,
    met: inMemory >= smallestCached && fromDisk >= smallestCold && largestP99 <= mostPackedBytes,
    notes: packed.map(
      ({ history, keys, entries, mean, p99 }) =>
        `${history}: ${keys} keys of ${entries.toFixed(0)} entries; packed ${Math.round(mean)} bytes on average, p99 ${p99}`,
    ),
  })
}

async function open(features: FeaturePlan, path: string, cacheBytes?: number): Promise<Running> {
  const store = new EmbeddedHistoryStore({ path, ...(cacheBytes !== undefined && { cacheBytes }) })
  await store.start(AbortSignal.timeout(30_000))
  return { store, engine: new FeatureEngine({ plan: features, store }) }
}

async function computeAll({ engine }: Running, slices: readonly FeatureSlice[]): Promise<void> {
  for (const { batch, input } of slices) {
    const { failures } = await engine.compute(batch, input, 'stream')
    if (failures.length > 0) throw failures[0]!.error
  }
}

async function rate(slices: readonly FeatureSlice[], work: () => void | Promise<void>): Promise<number> {
  const startMs = performance.now()
  await work()
  const seconds = (performance.now() - startMs) / 1000
  return slices.reduce((sum, { batch }) => sum + batch.rowCount, 0) / seconds
}

interface PackedBytes {
  readonly history: string
  readonly keys: number
  readonly entries: number
  readonly mean: number
  readonly p99: number
}

/** Of a file whose store is drained: every key has its row. */
function packedBytes(path: string): PackedBytes[] {
  const database = new DatabaseSync(path, { readOnly: true })
  try {
    const histories = database.prepare('SELECT id, name FROM feature_histories ORDER BY id').all()
    return histories.map(({ id, name }) => {
      const rows = database.prepare('SELECT length(packed) AS bytes, packed FROM feature_keys WHERE history = ?').all(id as number)
      const sizes = rows.map(({ bytes }) => bytes as number)
      const entries = rows.reduce((sum, { packed }) => sum + entriesOf(packed as Uint8Array), 0)
      const total = sizes.reduce((sum, size) => sum + size, 0)
      return {
        history: name as string,
        keys: rows.length,
        entries: entries / rows.length,
        mean: total / rows.length,
        p99: percentile(sizes, 0.99),
      }
    })
  } finally {
    database.close()
  }
}

/** Of one block: the varint behind its first byte. */
function entriesOf(packed: Uint8Array): number {
  return packed[1]! < 128 ? packed[1]! : (packed[1]! & 127) + packed[2]! * 128
}

const keyFields = { transactions: ['customer_id', 'terminal_id'], labels: ['terminal_id'] } as const

/** One SELECT a key that a slice needs, as the store does it, and nothing else. */
function readRows(database: DatabaseSync, slices: readonly FeatureSlice[]): void {
  const select = database.prepare('SELECT id, packed FROM feature_keys WHERE history = ? AND key = ?')
  for (const { input, batch } of slices)
    for (const [index, field] of keyFields[input].entries()) {
      const history = input === 'labels' ? 2 : index + 1
      const keys = new Set(Array.from(batch.columns.get(field)!.data as BigInt64Array, String))
      for (const key of keys) select.get(history, key)
    }
}

const dayMs = 86_400_000
const lengthsMs = [dayMs, 7 * dayMs, 30 * dayMs]
const delayMs = 7 * dayMs

/** What the windows cost alone: arrays a key, walked from the newest entry. */
class BareWalk {
  private readonly customers = new Map<bigint, { times: number[]; values: number[] }>()
  private readonly terminals = new Map<bigint, { times: number[]; values: number[] }>()
  private readonly results = new Float64Array(12)

  take({ input, batch }: FeatureSlice): void {
    const times = batch.meta.eventTimesMs
    const terminals = batch.columns.get('terminal_id')!.data as BigInt64Array
    if (input === 'labels') {
      const fraud = batch.columns.get('fraud')!.data as Uint8Array
      for (let row = 0; row < batch.rowCount; row++) add(entriesOfKey(this.terminals, terminals[row]!), times[row]!, fraud[row]!)
      return
    }
    const customers = batch.columns.get('customer_id')!.data as BigInt64Array
    const amounts = batch.columns.get('amount')!.data as Float64Array
    for (let row = 0; row < batch.rowCount; row++) {
      const customer = entriesOfKey(this.customers, customers[row]!)
      add(customer, times[row]!, amounts[row]!)
      this.walk(customer, times[row]!, 0)
      this.walk(entriesOfKey(this.terminals, terminals[row]!), times[row]! - delayMs, 6)
    }
  }

  private walk({ times, values }: { times: number[]; values: number[] }, untilMs: number, base: number): void {
    let at = times.length - 1
    while (at >= 0 && times[at]! > untilMs) at--
    let count = 0
    let sum = 0
    for (let window = 0; window < lengthsMs.length; window++) {
      const afterMs = untilMs - lengthsMs[window]!
      for (; at >= 0 && times[at]! > afterMs; at--) {
        count++
        sum += values[at]!
      }
      this.results[base + 2 * window] = count
      this.results[base + 2 * window + 1] = count === 0 ? 0 : sum / count
    }
  }
}

function entriesOfKey(of: Map<bigint, { times: number[]; values: number[] }>, key: bigint): { times: number[]; values: number[] } {
  let entries = of.get(key)
  if (entries === undefined) {
    entries = { times: [], values: [] }
    of.set(key, entries)
  }
  return entries
}

/** Labels come out of order. */
function add({ times, values }: { times: number[]; values: number[] }, timeMs: number, value: number): void {
  let at = times.length
  while (at > 0 && times[at - 1]! > timeMs) at--
  if (at === times.length) {
    times.push(timeMs)
    values.push(value)
    return
  }
  times.splice(at, 0, timeMs)
  values.splice(at, 0, value)
}
