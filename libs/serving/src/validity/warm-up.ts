import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { allocate, bytesColumn, elementBytes, elementCount, type FixedDatatype, MeshError, type Tensor, viewBytes } from '@spillway/core'
import type { Backend } from '../backend.ts'
import { checkInputs } from '../batching/check-inputs.ts'
import type { ModelConfig, WarmupInput } from '../config/model-config.ts'
import { runRows } from './run-rows.ts'

/** Beside the config: raw data of warm-up requests (Triton's `input_data_file`). */
const warmupFolder = 'warmup'

/**
 * Runs the config's warm-up requests, so that no caller pays for what a first run costs.
 * @throws MeshError FAILED_PRECONDITION naming the request where it fails: the version is not fit to serve.
 */
export async function warmUp(backend: Backend, { name, warmup }: ModelConfig, modelFolder: string, signal: AbortSignal): Promise<void> {
  for (const request of warmup) {
    try {
      const whole = backend.signature.wholeShapes !== undefined
      const rowCount = whole ? 1 : Math.max(1, request.rowCount)
      const inputs = new Map<string, Tensor>()
      for (const [input, made] of request.inputs) inputs.set(input, await makeInput(made, whole ? undefined : rowCount, modelFolder))
      checkInputs(name, backend.signature, inputs, rowCount)
      for (let time = 0; time < Math.max(1, request.count); time++) await runRows(backend, inputs, rowCount, signal)
    } catch (thrown) {
      throw new MeshError('FAILED_PRECONDITION', `warm-up request "${request.name}" fails: ${MeshError.from(thrown).message}`, {
        cause: thrown,
      })
    }
  }
}

/** @param rowCount undefined where the tensor is whole, without a row */
async function makeInput({ datatype, dims, data }: WarmupInput, rowCount: number | undefined, modelFolder: string): Promise<Tensor> {
  const sizes = dims.map((size) => (size === -1 ? 1 : size))
  const shape = rowCount === undefined ? sizes : [rowCount, ...sizes]
  const count = elementCount(shape)
  if (typeof data === 'object') return fromFile(join(modelFolder, warmupFolder, data.file), datatype, shape, elementCount(sizes))
  const random = data === 'random' ? randomNumbers() : () => 0
  if (datatype === 'BYTES') {
    const texts = Array.from({ length: count }, () => Buffer.from(data === 'random' ? random().toString(36).slice(2, 8) : ''))
    return { datatype, shape, data: bytesColumn(texts) }
  }
  const values = allocate(datatype, count)
  if (data === 'zero') return { datatype, shape, data: values }
  if (datatype === 'FP16') new Float16Array(values.buffer).forEach((_, i, floats) => (floats[i] = random()))
  else if (datatype === 'INT64' || datatype === 'UINT64')
    values.forEach((_: unknown, i: number) => (values[i] = BigInt(Math.round(random()))))
  // Whole numbers are 0 or 1: as an index into a table they must be within it.
  else values.forEach((_: unknown, i: number) => (values[i] = datatype.startsWith('FP') ? random() : Math.round(random())))
  return { datatype, shape, data: values }
}

/** Raw little-endian data of all rows or of one, which all rows then have; elements of BYTES with a length of 4 bytes before each. */
async function fromFile(path: string, datatype: Tensor['datatype'], shape: readonly number[], rowElements: number): Promise<Tensor> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new MeshError('FAILED_PRECONDITION', `${path} cannot be read`, { cause: error })
  })
  const count = elementCount(shape)
  const repeat = (parts: readonly Uint8Array[]): readonly Uint8Array[] =>
    parts.length === rowElements ? Array.from({ length: count }, (_, i) => parts[i % rowElements]!) : parts
  if (datatype === 'BYTES') {
    const elements = repeat(lengthPrefixed(bytes, path))
    if (elements.length !== count) throw wrongSize(path, `${elements.length} elements`, `${count} or ${rowElements}`)
    return { datatype, shape, data: bytesColumn(elements) }
  }
  const width = elementBytes(datatype)
  if (bytes.length === count * width) return fixed(datatype, shape, bytes)
  if (bytes.length !== rowElements * width) throw wrongSize(path, `${bytes.length} bytes`, `${count * width} or ${rowElements * width}`)
  return fixed(datatype, shape, Buffer.concat(new Array<Uint8Array>(count / rowElements).fill(bytes)))
}

function fixed(datatype: FixedDatatype, shape: readonly number[], bytes: Uint8Array): Tensor {
  return { datatype, shape, data: viewBytes(datatype, bytes) }
}

function lengthPrefixed(bytes: Buffer, path: string): Uint8Array[] {
  const elements: Uint8Array[] = []
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 <= bytes.length ? at + 4 + bytes.readUInt32LE(at) : Infinity
    if (end > bytes.length)
      throw wrongSize(path, `an element that ends beyond it, at byte ${at}`, 'elements with a length of 4 bytes before each')
    elements.push(bytes.subarray(at + 4, end))
    at = end
  }
  return elements
}

function wrongSize(path: string, found: string, expected: string): MeshError {
  return new MeshError('FAILED_PRECONDITION', `${path} has ${found}: expected ${expected}`)
}

/** Numbers in [0, 1), the same at every load. */
function randomNumbers(): () => number {
  let state = 1
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
