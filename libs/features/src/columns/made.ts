import { listed, wrong } from '../refusal.ts'
import { type ColumnData, type ColumnKind, kindName, numbersIn } from './column-data.ts'
import { crossMany, crossPairs, hashNumbers } from './murmur3.ts'
import type { ColumnFunction } from './definition.ts'
import type { ColumnRun } from './step.ts'

/** Another column that a source is made from. */
export interface Operand {
  readonly name: string
  readonly index: number
  readonly kind: ColumnKind
}

/** What a column is made of others: `make` is given a run in which they are done. */
export interface MadeSource {
  readonly kind: ColumnKind
  make(run: ColumnRun): ColumnData
}

/** Most categories of a cross of every pair. */
const mostPairs = 10_000_000

/**
 * Categories together. Without `buckets` every combination is one, the last column's changing fastest. With them it is hashed: MurmurHash3 x86 32, seed 0,
 * over the little-endian hashes of the parts (of text over its UTF-8 bytes, of a number over its FP64), modulo `buckets`. Absent where a part is.
 */
export function crossSource(operands: readonly Operand[], buckets: number | undefined, at: string): MadeSource {
  operands.forEach(({ name, kind }, index) => {
    if (kind.kind === 'text' || kind.kind === 'index' || (kind.kind === 'number' && kind.whole)) return
    const hint = kind.kind === 'number' ? ', not of categories: bucketise it' : ''
    throw wrong(
      `${at}.cross[${index}]`,
      `"${name}" is a ${kindName(kind.kind)}${hint}: categories are strings, integers, flags, buckets and encoded values`,
    )
  })
  if (buckets !== undefined) return { kind: { kind: 'index', size: buckets, first: 0 }, make: (run) => hashedCross(operands, buckets, run) }
  const sizes = operands.map(({ name, kind }) => {
    if (kind.kind === 'index') return kind.size
    throw wrong(
      `${at}.buckets`,
      `how many categories "${name}" has is not known: say into how many buckets to hash the cross, or encode it first`,
    )
  })
  const size = sizes.reduce((product, next) => product * next, 1)
  if (size > mostPairs) throw wrong(`${at}.buckets`, `the cross has ${size} categories, more than ${mostPairs}: hash it into buckets`)
  return { kind: { kind: 'index', size, first: 0 }, make: (run) => fullCross(operands, sizes, size, run) }
}

function fullCross(operands: readonly Operand[], sizes: readonly number[], size: number, run: ColumnRun): ColumnData {
  const values = run.scratch.indices().fill(0)
  operands.forEach(({ index }, place) => {
    const part = run.column(index).values as Int32Array
    const width = sizes[place]!
    for (let row = 0; row < values.length; row++) values[row] = values[row]! < 0 || part[row]! < 0 ? -1 : values[row]! * width + part[row]!
  })
  return { kind: 'index', values, size, first: 0 }
}

function hashedCross(operands: readonly Operand[], buckets: number, run: ColumnRun): ColumnData {
  const parts = operands.map(({ index }) => run.hashesOf(index))
  const values = run.scratch.indices()
  const [first, second] = parts as [Uint32Array, Uint32Array]
  if (parts.length === 2) crossPairs(first, second, buckets, values)
  else crossMany(parts, buckets, values)
  for (const { index } of operands) if (run.hasAbsent(index)) markAbsent(run.column(index), values)
  return { kind: 'index', values, size: buckets, first: 0 }
}

/** -1 in `values` where the column is absent. */
function markAbsent(data: ColumnData, values: Int32Array): void {
  if (data.kind === 'text') {
    const { offsets } = data.values.bytes
    for (let row = 0; row < values.length; row++) if (offsets[row] === offsets[row + 1]) values[row] = -1
  } else if (data.kind === 'index') {
    for (let row = 0; row < values.length; row++) if (data.values[row]! < 0) values[row] = -1
  } else for (let row = 0; row < values.length; row++) if (Number.isNaN(data.values[row])) values[row] = -1
}

/** Whether a row has no value. */
export function hasAbsent(data: ColumnData): boolean {
  if (data.kind === 'text') {
    const { offsets } = data.values.bytes
    for (let row = 1; row < offsets.length; row++) if (offsets[row] === offsets[row - 1]) return true
    return false
  }
  const { values } = data
  if (data.kind === 'index') return (values as Int32Array).includes(-1)
  for (let row = 0; row < values.length; row++) if (Number.isNaN(values[row])) return true
  return false
}

/** Of text over its bytes, of numbers over their FP64. */
export function hashesOf(data: ColumnData, into: Uint32Array): Uint32Array {
  if (data.kind === 'text') return data.values.hashes
  hashNumbers(numbersIn(data), 0, into)
  return into
}

/** Every product of 2 to `degree` of the columns, in the order of scikit-learn's PolynomialFeatures: by degree, then by column. */
export function polynomialSource(operands: readonly Operand[], degree: number, at: string): MadeSource {
  operands.forEach(({ name, kind }, index) => {
    if (kind.kind !== 'number' && kind.kind !== 'index')
      throw wrong(`${at}.polynomial[${index}]`, `"${name}" is a ${kindName(kind.kind)}: products are of numbers`)
  })
  const products: (readonly number[])[] = []
  for (let factors = 2; factors <= degree; factors++) products.push(...combinations(operands.length, factors))
  if (products.length > 4096) throw wrong(`${at}.degree`, `${products.length} products are more than 4096: lower the degree`)
  const elements = products.map((factors) => `[${productName(factors.map((factor) => operands[factor]!.name))}]`)
  const make = (run: ColumnRun): ColumnData => {
    const columns = operands.map(({ index }) => numbersIn(run.column(index)))
    const width = products.length
    const values = new Float64Array(run.rowCount * width)
    products.forEach((factors, element) => {
      for (let row = 0, to = element; row < run.rowCount; row++, to += width) {
        let product = 1
        for (let factor = 0; factor < factors.length; factor++) product *= columns[factors[factor]!]![row]!
        values[to] = product
      }
    })
    return { kind: 'vector', values, width }
  }
  return { kind: { kind: 'vector', elements }, make }
}

/** Of 0 to `count` - 1, with repetition, in order. */
function combinations(count: number, length: number, from = 0): (readonly number[])[] {
  if (length === 0) return [[]]
  const found: (readonly number[])[] = []
  for (let first = from; first < count; first++) for (const rest of combinations(count, length - 1, first)) found.push([first, ...rest])
  return found
}

/** `a*b`, `a^2*b` */
function productName(names: readonly string[]): string {
  return [...new Set(names)]
    .map((name) => {
      const power = names.filter((other) => other === name).length
      return power === 1 ? name : `${name}^${power}`
    })
    .join('*')
}

export function exportedFunction(module: Readonly<Record<string, unknown>>, name: string, path: string, at: string): ColumnFunction {
  const found = module[name]
  if (typeof found === 'function') return found as ColumnFunction
  const functions = Object.keys(module).filter((key) => typeof module[key] === 'function')
  throw wrong(`${at}.export`, `${path} exports no function "${name}": choose among ${listed(functions)}`)
}
