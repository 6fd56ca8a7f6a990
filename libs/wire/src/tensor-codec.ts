import { type Datatype, elementBytes, elementCount, isDatatype, MeshError, type Tensor, viewBytes } from '@spillway/core'
import { decodeElements, encodeElements } from './bytes-elements.ts'
import type { InferParameter, InferTensorContents } from './generated/inference/grpc_service.ts'
import { hasContents, typedContents } from './typed-contents.ts'

/** An input of a ModelInferRequest or an output of a ModelInferResponse: both messages have these fields. */
export interface WireTensor {
  name: string
  datatype: string
  shape: bigint[]
  parameters: { [key: string]: InferParameter }
  contents: InferTensorContents | undefined
}

/** Tensors as ModelInferRequest and ModelInferResponse carry them: `raw[i]` is the data of `tensors[i]`. */
export interface RawTensors {
  readonly tensors: WireTensor[]
  /** Shares the memory of fixed-width tensors; valid until those change. */
  readonly raw: Uint8Array[]
}

/** Tensors with their data as `raw_input_contents`/`raw_output_contents`: little-endian, as every platform that Node.js runs on. */
export function toRawTensors(tensors: Iterable<readonly [string, Tensor]>): RawTensors {
  const described: WireTensor[] = []
  const raw: Uint8Array[] = []
  for (const [name, tensor] of tensors) {
    described.push(wireTensor(name, tensor.datatype, tensor.shape))
    raw.push(rawBytes(tensor))
  }
  return { tensors: described, raw }
}

export function wireTensor(name: string, datatype: Datatype, shape: readonly number[]): WireTensor {
  return { name, datatype, shape: shape.map(BigInt), parameters: {}, contents: undefined }
}

/** A tensor's data, little-endian; shares the memory of a fixed-width one. */
export function rawBytes(tensor: Tensor): Uint8Array {
  if (tensor.datatype === 'BYTES') return encodeElements(tensor.data)
  return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength)
}

/**
 * The tensors of a ModelInferRequest (`inputs`, `rawInputContents`) or ModelInferResponse, in their order. Data is raw where `raw` has
 * anything, else typed `contents`; never both (OIP "ModelInferRequest"). Fixed-width raw data is shared with the message where it is aligned.
 * @throws MeshError INVALID_ARGUMENT naming the tensor and what was expected.
 */
export function fromRawTensors(tensors: readonly WireTensor[], raw: readonly Uint8Array[]): Map<string, Tensor> {
  if (raw.length > 0) assertOneEach(tensors, raw)
  const decoded = new Map<string, Tensor>()
  for (let i = 0; i < tensors.length; i++) {
    const wire = tensors[i]!
    if (decoded.has(wire.name)) throw invalid(wire.name, 'is given twice')
    decoded.set(wire.name, fromRawTensor(wire, raw[i]))
  }
  return decoded
}

export function assertOneEach(tensors: readonly WireTensor[], raw: readonly Uint8Array[]): void {
  if (raw.length !== tensors.length) {
    throw new MeshError('INVALID_ARGUMENT', `${tensors.length} tensors come with ${raw.length} raw contents: give one for each, or none`)
  }
}

function fromRawTensor(wire: WireTensor, raw: Uint8Array | undefined): Tensor {
  const { name, datatype } = wire
  if (!isDatatype(datatype))
    throw invalid(name, `unknown datatype "${datatype}": OIP's datatypes are BOOL, UINT8 … INT64, FP16, BF16, FP32, FP64 and BYTES`)
  const shape = dimensions(wire)
  if (raw === undefined) return typedContents(name, datatype, shape, wire.contents)
  if (wire.contents !== undefined && hasContents(wire.contents)) throw invalid(name, 'has both raw and typed contents: give one of them')
  return rawTensor(name, datatype, shape, raw)
}

/** @throws MeshError INVALID_ARGUMENT where `raw` does not hold what datatype and shape say. */
export function rawTensor(name: string, datatype: Datatype, shape: readonly number[], raw: Uint8Array): Tensor {
  const count = elementCount(shape)
  if (datatype === 'BYTES') return { datatype, shape, data: decodeElements(raw, count, name) }
  const expected = count * elementBytes(datatype)
  if (raw.byteLength !== expected)
    throw invalid(name, `${datatype} of shape [${shape.join(', ')}] needs ${expected} bytes, got ${raw.byteLength}`)
  if (datatype === 'BOOL') checkBooleans(name, raw)
  return { datatype, shape, data: viewBytes(datatype, raw) }
}

/** A runtime may do anything with other bytes. */
function checkBooleans(name: string, raw: Uint8Array): void {
  for (let i = 0; i < raw.length; i++) if (raw[i]! > 1) throw invalid(name, `byte ${i} of BOOL is ${raw[i]}: expected 0 or 1`)
}

/** The shape as numbers: no negative size, and a product that a number holds exactly. */
export function dimensions(wire: WireTensor): number[] {
  const shape: number[] = []
  let product = 1
  for (const size of wire.shape) {
    if (size < 0n) throw invalid(wire.name, `shape [${wire.shape.join(', ')}] has a negative size`)
    shape.push(Number(size))
    product *= Math.max(1, Number(size))
    if (product > Number.MAX_SAFE_INTEGER) throw invalid(wire.name, `shape [${wire.shape.join(', ')}] is too large`)
  }
  return shape
}

function invalid(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
