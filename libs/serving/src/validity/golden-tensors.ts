import { allocate, bytesColumn, elementCount, type FixedData, type FixedDatatype, isDatatype, MeshError, type Tensor } from '@spillway/core'

/** A number with its text, since a 64-bit integer does not survive as a JavaScript number. */
interface NumberText {
  readonly source: string
}

/** JSON whose numbers are left as their text. @throws SyntaxError */
export function parseExact(text: string): unknown {
  const keep = (_key: string, value: unknown, context?: { source?: string }): unknown =>
    typeof value === 'number' ? ({ source: context?.source ?? String(value) } satisfies NumberText) : value
  return JSON.parse(text, keep)
}

export function asNumber(value: unknown): number | undefined {
  return isNumberText(value) ? Number(value.source) : undefined
}

/**
 * Tensors as the Open Inference Protocol's JSON has them: `{"name", "datatype", "shape", "data"}`, data flat or nested. `"NaN"`, `"Infinity"` and `"-Infinity"`
 * are written as strings. @throws MeshError INVALID_ARGUMENT whose field is the path in the file
 */
export function readTensors(value: unknown, field: string): ReadonlyMap<string, Tensor> {
  if (!Array.isArray(value)) throw invalid(field, 'a list of tensors')
  const tensors = new Map<string, Tensor>()
  for (const [index, item] of value.entries()) {
    const at = `${field}[${index}]`
    const { name, datatype, shape, data } = (item ?? {}) as Record<string, unknown>
    if (typeof name !== 'string' || tensors.has(name)) throw invalid(`${at}.name`, 'a name, each once')
    if (typeof datatype !== 'string' || !isDatatype(datatype)) throw invalid(`${at}.datatype`, 'a datatype of the protocol, as "FP32"')
    const sizes = Array.isArray(shape) ? shape.map((size) => asNumber(size) ?? -1) : []
    if (!Array.isArray(shape) || sizes.some((size) => !(size >= 0))) throw invalid(`${at}.shape`, 'a list of sizes')
    const elements = flat(data, `${at}.data`)
    if (elements.length !== elementCount(sizes)) throw invalid(`${at}.data`, `${elementCount(sizes)} elements, not ${elements.length}`)
    tensors.set(name, makeTensor(datatype, sizes, elements, `${at}.data`))
  }
  return tensors
}

/** More elements than a file that somebody keeps beside a model should have. */
const mostElements = 10_000_000

function flat(data: unknown, field: string): unknown[] {
  if (!Array.isArray(data)) throw invalid(field, 'a list')
  const elements = data.flat(16) as unknown[]
  if (elements.length > mostElements) throw invalid(field, `at most ${mostElements} elements`)
  return elements
}

function makeTensor(datatype: Tensor['datatype'], shape: readonly number[], elements: readonly unknown[], field: string): Tensor {
  if (datatype === 'BYTES') {
    const texts = elements.map((element) => {
      if (typeof element !== 'string') throw invalid(field, 'strings')
      return Buffer.from(element)
    })
    return { datatype, shape, data: bytesColumn(texts) }
  }
  const data = allocate(datatype, elements.length)
  elements.forEach((element, index) => put(datatype, data, index, element, field))
  return { datatype, shape, data }
}

function put(datatype: FixedDatatype, data: FixedData, index: number, element: unknown, field: string): void {
  if (datatype === 'INT64' || datatype === 'UINT64') {
    const text = isNumberText(element) ? element.source : element
    if (typeof text !== 'string' || !/^-?\d+$/.test(text)) throw invalid(field, 'whole numbers')
    data[index] = BigInt(text)
    return
  }
  const value = typeof element === 'boolean' ? Number(element) : typeof element === 'string' ? special(element) : asNumber(element)
  if (value === undefined) throw invalid(field, datatype === 'BOOL' ? 'true and false' : 'numbers')
  if (datatype === 'FP16') new Float16Array(data.buffer, data.byteOffset, data.length)[index] = value
  else if (datatype === 'BF16') data[index] = new Uint32Array(Float32Array.of(value).buffer)[0]! >>> 16
  else data[index] = value
}

function special(text: string): number | undefined {
  return ['NaN', 'Infinity', '-Infinity'].includes(text) ? Number(text) : undefined
}

function isNumberText(value: unknown): value is NumberText {
  return typeof value === 'object' && value !== null && typeof (value as NumberText).source === 'string'
}

function invalid(field: string, expected: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `${field}: expected ${expected}`, { field })
}
