import { type Batch, type BytesColumn, rowMeta, type Tensor, text } from '@spillway/core'
import { compileFeatures, type FeatureInput, FeatureEngine, EmbeddedHistoryStore, featuresSchema, type FieldType } from '@spillway/features'
import { alternate, type Contender, type Figures, writeResult } from './rounds.ts'

const rows = 1024
const numbers = 16
const categories = 8
const buckets = 1000
const words = Array.from({ length: 10 }, (_, index) => `category-${index}`)
const mean = 0.5
const deviation = 0.29
const roundMs = 2000
const target = 2_000_000

/** What categories are: integers, or text of ten bytes. */
type Kind = 'integer' | 'string'

/** 16 numbers standardised, 8 categories as 10 flags each, 8 crosses of two categories hashed into 1,000 buckets: 104 elements. */
async function benchTransforms(rounds: number): Promise<void> {
  const store = new EmbeddedHistoryStore({ path: ':memory:' })
  await store.start(new AbortController().signal)
  const contenders: Contender[] = []
  for (const kind of ['integer', 'string'] as const) {
    const batch = batchOf(kind)
    const engine = new FeatureEngine({ plan: compileFeatures(featuresSchema.parse(section(kind)), inputsOf(kind)), store })
    const compiled = async (): Promise<Float32Array> => {
      const result = await engine.compute(batch, 'events', 'request')
      return result.batch.columns.get('features')!.data as Float32Array
    }
    const byHand = (): Promise<Float32Array> => Promise.resolve(kind === 'integer' ? integersByHand(batch) : textByHand(batch))
    checkSame(await compiled(), await byHand(), kind)
    contenders.push({ name: `plan, ${kind} categories`, run: () => rowsPerCpuSecond(compiled) })
    contenders.push({ name: `by hand, ${kind} categories`, run: () => rowsPerCpuSecond(byHand) })
  }
  for (const contender of contenders) await contender.run()
  const figures = await alternate(rounds, contenders)
  const [plan, hand, textPlan, textHand] = figures as [Figures, Figures, Figures, Figures]
  const share = (of: Figures, limit: Figures): string => `${((of.median / limit.median) * 100).toFixed(0)} %`
  writeResult({
    benchmark: 'transforms',
    unit: 'rows/s·core',
    setup: `the engine without histories, batches of ${rows}: ${numbers} numbers standardised, ${categories} categories of 10 as flags, ${categories} crosses of two hashed into ${buckets}, an FP32 vector of ${numbers + categories * 11}; rows a second of processor time, ${roundMs / 1000} s a round. By hand: the same vector by one loop over typed arrays a transform.`,
    figures,
    target: `≥ ${target / 1e6} M rows/s·core`,
    reached: `${(plan.median / 1e6).toFixed(2)} M with integers (${share(plan, hand)} of the loops by hand), ${(textPlan.median / 1e6).toFixed(2)} M with text (${share(textPlan, textHand)})`,
    met: plan.median >= target && textPlan.median >= target,
    notes: [
      'A vector is memory of its own for whoever takes the batch, 416 KB here: making it, and collecting it, is the largest part, for the loops by hand too.',
      'The nursery is 1 MB, not the 16 MB of the command: a pipeline allocates beside its transforms, and so frees vectors every few batches. Where nothing else does, a large nursery leaves them to collections of the whole heap, at two thirds of the throughput.',
    ],
  })
  await store.drain()
}

function section(kind: Kind): unknown {
  const columns: Record<string, unknown> = {}
  for (let i = 0; i < numbers; i++) columns[`standard${i}`] = { field: `number${i}`, steps: [{ standardise: { mean, deviation } }] }
  const values = kind === 'integer' ? words.map((_, index) => index) : words
  for (let i = 0; i < categories; i++) columns[`flags${i}`] = { field: `category${i}`, steps: [{ oneHot: values }] }
  for (let i = 0; i < categories; i++) columns[`cross${i}`] = { cross: [`category${i}`, `category${(i + 1) % categories}`], buckets }
  return { columns, vector: Object.keys(columns) }
}

function inputsOf(kind: Kind): ReadonlyMap<string, FeatureInput> {
  const fields = new Map<string, FieldType>()
  for (let i = 0; i < numbers; i++) fields.set(`number${i}`, 'number')
  for (let i = 0; i < categories; i++) fields.set(`category${i}`, kind)
  return new Map([['events', { fields, latenessMs: 0, predict: true }]])
}

function batchOf(kind: Kind): Batch {
  const shape = [rows]
  const columns = new Map<string, Tensor>()
  let state = 1
  const random = (): number => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) / 2 ** 32
  for (let i = 0; i < numbers; i++)
    columns.set(`number${i}`, { datatype: 'FP64', shape, data: Float64Array.from({ length: rows }, random) })
  for (let i = 0; i < categories; i++) {
    const chosen = Array.from({ length: rows }, () => Math.floor(random() * words.length))
    const integers: Tensor = { datatype: 'INT64', shape, data: BigInt64Array.from(chosen, BigInt) }
    columns.set(`category${i}`, kind === 'integer' ? integers : text(chosen.map((index) => words[index]!)))
  }
  return { rowCount: rows, meta: rowMeta(rows), columns }
}

async function rowsPerCpuSecond(batch: () => Promise<unknown>): Promise<number> {
  const until = performance.now() + roundMs
  const before = process.cpuUsage()
  let done = 0
  while (performance.now() < until) {
    for (let i = 0; i < 16; i++) await batch()
    done += 16 * rows
  }
  const { user, system } = process.cpuUsage(before)
  return (done / (user + system)) * 1e6
}

function checkSame(made: Float32Array, expected: Float32Array, kind: Kind): void {
  if (made.length !== expected.length || made.some((value, index) => value !== expected[index]))
    throw new Error(`the plan and the loops by hand differ for ${kind} categories`)
}

const width = numbers + categories * 11

/** Written for these columns alone. */
function integersByHand(batch: Batch): Float32Array {
  const vector = standardisedByHand(batch)
  const hashes: Uint32Array[] = []
  for (let i = 0; i < categories; i++) {
    const data = batch.columns.get(`category${i}`)!.data as BigInt64Array
    const words32 = new Int32Array(data.buffer, data.byteOffset, rows * 2)
    const hashed = new Uint32Array(rows)
    const double = new Float64Array(1)
    const halves = new Int32Array(double.buffer)
    for (let row = 0, to = numbers + i * 10; row < rows; row++, to += width) {
      const value = words32[2 * row + 1]! * 4_294_967_296 + (words32[2 * row]! >>> 0)
      if (value >= 0 && value < 10) vector[to + value] = 1
      double[0] = value
      hashed[row] = finished(mixed(mixed(0, halves[0]!), halves[1]!), 8)
    }
    hashes.push(hashed)
  }
  return crossedByHand(vector, hashes)
}

function textByHand(batch: Batch): Float32Array {
  const vector = standardisedByHand(batch)
  const places = new Map(words.map((word, index) => [hashByHand(new TextEncoder().encode(word), 0, word.length), index]))
  const hashes: Uint32Array[] = []
  for (let i = 0; i < categories; i++) {
    const { bytes, offsets } = batch.columns.get(`category${i}`)!.data as BytesColumn
    const hashed = new Uint32Array(rows)
    for (let row = 0, to = numbers + i * 10; row < rows; row++, to += width) {
      const hash = hashByHand(bytes, offsets[row]!, offsets[row + 1]!)
      hashed[row] = hash
      const place = places.get(hash)
      if (place !== undefined) vector[to + place] = 1
    }
    hashes.push(hashed)
  }
  return crossedByHand(vector, hashes)
}

function standardisedByHand(batch: Batch): Float32Array {
  const vector = new Float32Array(rows * width)
  for (let i = 0; i < numbers; i++) {
    const data = batch.columns.get(`number${i}`)!.data as Float64Array
    for (let row = 0, to = i; row < rows; row++, to += width) vector[to] = (data[row]! - mean) / deviation
  }
  return vector
}

function crossedByHand(vector: Float32Array, hashes: readonly Uint32Array[]): Float32Array {
  for (let i = 0; i < categories; i++) {
    const first = hashes[i]!
    const second = hashes[(i + 1) % categories]!
    for (let row = 0, to = numbers + categories * 10 + i; row < rows; row++, to += width)
      vector[to] = finished(mixed(mixed(0, first[row]!), second[row]!), 8) % buckets
  }
  return vector
}

/** MurmurHash3 x86 32. */
function mixed(hash: number, block: number): number {
  const k = Math.imul(block, 0xcc9e2d51)
  const h = hash ^ Math.imul((k << 15) | (k >>> 17), 0x1b873593)
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0
}

function finished(hash: number, length: number): number {
  let h = hash ^ length
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

function hashByHand(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0
  let at = from
  for (; at + 4 <= to; at += 4) hash = mixed(hash, bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
  let tail = 0
  for (let shift = 0; at < to; at++, shift += 8) tail |= bytes[at]! << shift
  const k = Math.imul(tail, 0xcc9e2d51)
  return finished(hash ^ Math.imul((k << 15) | (k >>> 17), 0x1b873593), to - from)
}

await benchTransforms(Number(process.argv[2]))
process.exit(0)
