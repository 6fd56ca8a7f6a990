import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Datatype } from '@spillway/core'

/**
 * Small ONNX models without a training framework: writes the protobuf of onnx/onnx.proto (field numbers and data types from there) by hand.
 */
export interface ValueSpec {
  readonly name: string
  readonly datatype: Datatype
  /** A string is a symbolic dimension. */
  readonly shape: readonly (number | string)[]
  /** The value is declared as sequence(map(int64, float)), as ZipMap makes it; datatype and shape are ignored. */
  readonly zipMap?: boolean
}

export type AttributeSpec =
  | { readonly ints: readonly number[] }
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string }

export interface NodeSpec {
  readonly op: string
  readonly domain?: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, AttributeSpec>>
}

export interface InitializerSpec {
  readonly name: string
  readonly shape: readonly number[]
  readonly data: Float32Array | BigInt64Array
}

export interface ModelSpec {
  readonly inputs: readonly ValueSpec[]
  readonly outputs: readonly ValueSpec[]
  readonly nodes: readonly NodeSpec[]
  readonly initializers?: readonly InitializerSpec[]
}

/** TensorProto.DataType */
const onnxTypes: Readonly<Record<Datatype, number>> = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
  BF16: 16,
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest % 0x80) | 0x80)
    rest = Math.floor(rest / 0x80)
  }
  return Buffer.from([...bytes, rest])
}

const int = (field: number, value: number): Buffer => Buffer.concat([varint(field * 8), varint(value)])

function bytes(field: number, value: Uint8Array | string): Buffer {
  const content = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([varint(field * 8 + 2), varint(content.byteLength), content])
}

const message = (field: number, ...parts: Buffer[]): Buffer => bytes(field, Buffer.concat(parts))

function float(field: number, value: number): Buffer {
  const content = Buffer.alloc(4)
  content.writeFloatLE(value)
  return Buffer.concat([varint(field * 8 + 5), content])
}

function attribute(name: string, spec: AttributeSpec): Buffer {
  if ('ints' in spec) return message(5, bytes(1, name), ...spec.ints.map((value) => int(8, value)), int(20, 7))
  if ('int' in spec) return message(5, bytes(1, name), int(3, spec.int), int(20, 2))
  if ('float' in spec) return message(5, bytes(1, name), float(2, spec.float), int(20, 1))
  return message(5, bytes(1, name), bytes(4, spec.text), int(20, 3))
}

function node(spec: NodeSpec): Buffer {
  const attributes = Object.entries(spec.attributes ?? {}).map(([name, value]) => attribute(name, value))
  return message(
    1,
    ...spec.inputs.map((name) => bytes(1, name)),
    ...spec.outputs.map((name) => bytes(2, name)),
    bytes(4, spec.op),
    ...attributes,
    bytes(7, spec.domain ?? ''),
  )
}

function initializer(spec: InitializerSpec): Buffer {
  const data = Buffer.from(spec.data.buffer, spec.data.byteOffset, spec.data.byteLength)
  return message(
    5,
    ...spec.shape.map((size) => int(1, size)),
    int(2, spec.data instanceof Float32Array ? 1 : 7),
    bytes(8, spec.name),
    bytes(9, data),
  )
}

function value(field: number, spec: ValueSpec): Buffer {
  if (spec.zipMap === true) {
    const floats = message(2, message(1, int(1, 1)))
    return message(field, bytes(1, spec.name), message(2, message(4, message(1, message(5, int(1, 7), floats)))))
  }
  const shape = spec.shape.map((size) => message(1, typeof size === 'number' ? int(1, size) : bytes(2, size)))
  return message(field, bytes(1, spec.name), message(2, message(1, int(1, onnxTypes[spec.datatype]), message(2, ...shape))))
}

export function onnxModel(spec: ModelSpec): Uint8Array {
  const graph = message(
    7,
    ...spec.nodes.map(node),
    bytes(2, 'graph'),
    ...(spec.initializers ?? []).map(initializer),
    ...spec.inputs.map((input) => value(11, input)),
    ...spec.outputs.map((output) => value(12, output)),
  )
  const operators = [message(8, bytes(1, ''), int(2, 13)), message(8, bytes(1, 'ai.onnx.ml'), int(2, 2))]
  return Buffer.concat([int(1, 8), bytes(2, 'spillway-test'), graph, ...operators])
}

/** `score = sigmoid(features · weights + bias)`: FP32 [rows, weights.length] to FP32 [rows, 1]. */
export function logisticModel(weights: readonly number[], bias: number, rows: number | string = 'rows'): Uint8Array {
  return onnxModel({
    inputs: [{ name: 'features', datatype: 'FP32', shape: [rows, weights.length] }],
    outputs: [{ name: 'score', datatype: 'FP32', shape: [rows, 1] }],
    initializers: [
      { name: 'weights', shape: [weights.length, 1], data: Float32Array.from(weights) },
      { name: 'bias', shape: [1], data: Float32Array.of(bias) },
    ],
    nodes: [
      { op: 'Gemm', inputs: ['features', 'weights', 'bias'], outputs: ['logit'] },
      { op: 'Sigmoid', inputs: ['logit'], outputs: ['score'] },
    ],
  })
}

/** What `logisticModel` gives for one row, in double precision. */
export function logistic(weights: readonly number[], bias: number, row: ArrayLike<number>): number {
  let logit = bias
  for (let i = 0; i < weights.length; i++) logit += weights[i]! * row[i]!
  return 1 / (1 + Math.exp(-logit))
}

/** Dense layers with ReLU between and a sigmoid at the end: FP32 `features` [rows, widths[0]] to FP32 `score` [rows, widths.at(-1)]. Weights by `seed`. */
export function mlpModel(widths: readonly number[], seed = 1): Uint8Array {
  let state = seed
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  const initializers: InitializerSpec[] = []
  const nodes: NodeSpec[] = []
  let last = 'features'
  for (let layer = 1; layer < widths.length; layer++) {
    const [from, to] = [widths[layer - 1]!, widths[layer]!]
    const scale = 2 / Math.sqrt(from)
    initializers.push({ name: `w${layer}`, shape: [from, to], data: Float32Array.from({ length: from * to }, () => random() * scale) })
    initializers.push({ name: `b${layer}`, shape: [to], data: Float32Array.from({ length: to }, random) })
    nodes.push({ op: 'Gemm', inputs: [last, `w${layer}`, `b${layer}`], outputs: [`z${layer}`] })
    last = layer === widths.length - 1 ? 'score' : `h${layer}`
    nodes.push({ op: last === 'score' ? 'Sigmoid' : 'Relu', inputs: [`z${layer}`], outputs: [last] })
  }
  return onnxModel({
    inputs: [{ name: 'features', datatype: 'FP32', shape: ['rows', widths[0]!] }],
    outputs: [{ name: 'score', datatype: 'FP32', shape: ['rows', widths.at(-1)!] }],
    initializers,
    nodes,
  })
}

/** Writes `<repository>/<model>/<version>/model.onnx` and returns its path. */
export async function writeModel(repository: string, model: string, version: number | string, content: Uint8Array): Promise<string> {
  const folder = join(repository, model, String(version))
  await mkdir(folder, { recursive: true })
  const path = join(folder, 'model.onnx')
  await writeFile(path, content)
  return path
}
