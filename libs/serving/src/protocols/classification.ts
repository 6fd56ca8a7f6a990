import { bytesCount, type FixedTensor, MeshError, type Tensor, text } from '@spillway/core'

const unsupported = new Set(['BOOL', 'FP16', 'BF16'])

/** Up to here, the largest are found by looking at each element once. */
const fewClasses = 16

/**
 * The classes of largest value, as the classification extension gives them: BYTES [rows, count], each `value:index[:label]`, the largest first. Floats are written
 * with six decimals, as C++'s `to_string`, which Triton uses. `count` is cut to the classes there are.
 * @param batched whether the first dimension is the row; otherwise the result is BYTES [count] over all elements.
 * @throws MeshError INVALID_ARGUMENT naming the output whose values have no order.
 */
export function classify(name: string, tensor: Tensor, count: number, batched: boolean, labels: readonly string[] | undefined): Tensor {
  if (tensor.datatype === 'BYTES' || unsupported.has(tensor.datatype))
    throw new MeshError('INVALID_ARGUMENT', `output "${name}" is ${tensor.datatype}: classification needs numbers`, { field: name })
  const { data } = tensor
  const rows = batched ? tensor.shape[0]! : 1
  const classes = rows === 0 ? 0 : data.length / rows
  const kept = Math.min(count, classes)
  const texts: string[] = []
  for (let row = 0; row < rows; row++) {
    for (const index of largest(data, row * classes, classes, kept)) {
      const label = labels?.[index]
      const value = data[row * classes + index]!
      texts.push(`${valueText(tensor, value)}:${index}${label === undefined ? '' : `:${label}`}`)
    }
  }
  const { data: column } = text(texts)
  return { datatype: 'BYTES', shape: batched ? [rows, kept] : [bytesCount(column)], data: column }
}

function valueText({ datatype }: FixedTensor, value: number | bigint): string {
  if (typeof value === 'bigint' || (datatype !== 'FP32' && datatype !== 'FP64')) return String(value)
  if (Number.isNaN(value)) return 'nan'
  return Number.isFinite(value) ? fixed(value) : value > 0 ? 'inf' : '-inf'
}

/** `toFixed` goes over to an exponent from 1e21 on. */
function fixed(value: number): string {
  return Math.abs(value) < 1e21 ? value.toFixed(6) : `${BigInt(value)}.000000`
}

/** Whether `a` stands before `b`: NaN after every number. */
function before(a: number | bigint, b: number | bigint): boolean {
  return a > b || (Number.isNaN(b) && !Number.isNaN(a))
}

/** Indexes of the `kept` largest of `classes` elements from `start`, the largest first; of equal ones the first. */
function largest(data: FixedTensor['data'], start: number, classes: number, kept: number): number[] {
  if (kept > fewClasses) {
    const indexes = Array.from({ length: classes }, (_, index) => index)
    const order = (a: number, b: number): number => {
      const [left, right] = [data[start + a]!, data[start + b]!]
      return before(left, right) ? -1 : before(right, left) ? 1 : a - b
    }
    return indexes.sort(order).slice(0, kept)
  }
  const found: number[] = []
  for (let index = 0; index < classes; index++) {
    const value = data[start + index]!
    let at = found.length
    while (at > 0 && before(value, data[start + found[at - 1]!]!)) at--
    if (at >= kept) continue
    found.splice(at, 0, index)
    if (found.length > kept) found.pop()
  }
  return found
}
