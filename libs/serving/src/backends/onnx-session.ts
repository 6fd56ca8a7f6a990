import {
  bytesColumn,
  type ColumnType,
  type Datatype,
  type FixedData,
  MeshError,
  type Signature,
  type Tensor,
  textValues,
  textColumn,
} from '@spillway/core'
import ort from 'onnxruntime-node'
import type { ModelSignature, Tensors } from '../backend.ts'

type OrtType = ort.Tensor.Type

/** OIP datatypes of the element types that ONNX Runtime's Node.js binding takes. */
const datatypes: Readonly<Partial<Record<OrtType, Datatype>>> = {
  float32: 'FP32',
  float64: 'FP64',
  float16: 'FP16',
  int8: 'INT8',
  int16: 'INT16',
  int32: 'INT32',
  int64: 'INT64',
  uint8: 'UINT8',
  uint16: 'UINT16',
  uint32: 'UINT32',
  uint64: 'UINT64',
  bool: 'BOOL',
  string: 'BYTES',
}
const ortTypes = new Map<Datatype, OrtType>(Object.entries(datatypes).map(([type, datatype]) => [datatype, type as OrtType]))

export interface OnnxDescription {
  readonly signature: ModelSignature
  /** Infinity where the first dimension is symbolic. */
  readonly maxBatchRows: number
}

/** An ONNX Runtime session on the CPU. `run` blocks the thread that it is on. */
export class OnnxSession {
  readonly description: OnnxDescription
  readonly #session: ort.InferenceSession

  private constructor(session: ort.InferenceSession, path: string) {
    this.#session = session
    this.description = describe(session, path)
  }

  /** @throws MeshError FAILED_PRECONDITION naming the file where it is no ONNX model, or not one that takes rows. */
  static async open(path: string, threads: number): Promise<OnnxSession> {
    let session: ort.InferenceSession
    try {
      session = await ort.InferenceSession.create(path, {
        executionProviders: ['cpu'],
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        // What fails is thrown, with the same text: nothing goes to standard error beside the log.
        logSeverityLevel: 4,
      })
    } catch (error) {
      throw new MeshError('FAILED_PRECONDITION', `${path} cannot be loaded as an ONNX model: ${(error as Error).message}`, { cause: error })
    }
    return new OnnxSession(session, path)
  }

  /** @throws MeshError INTERNAL with the runtime's message, which names the node that failed. */
  async run(inputs: Tensors): Promise<Map<string, Tensor>> {
    const feeds: Record<string, ort.Tensor> = {}
    let rowCount = 0
    for (const name of this.description.signature.inputs.keys()) {
      const input = inputs.get(name)
      if (input === undefined) throw new MeshError('INVALID_ARGUMENT', `input "${name}" is missing`, { field: name })
      feeds[name] = toOrt(input)
      rowCount = input.shape[0]!
    }
    let results: ort.InferenceSession.ReturnType
    try {
      results = await this.#session.run(feeds)
    } catch (error) {
      throw new MeshError('INTERNAL', `ONNX Runtime: ${(error as Error).message}`)
    }
    const outputs = new Map<string, Tensor>()
    for (const [name, type] of this.description.signature.outputs) {
      const output = results[name]!
      if (output.dims[0] !== rowCount)
        throw new MeshError(
          'INTERNAL',
          `output "${name}" has shape [${output.dims.join(', ')}] for ${rowCount} rows: its first dimension must be the row`,
        )
      outputs.set(name, fromOrt(output, type.datatype))
    }
    return outputs
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}

function toOrt(input: Tensor): ort.Tensor {
  const type = ortTypes.get(input.datatype)
  if (type === undefined) throw new MeshError('INVALID_ARGUMENT', `ONNX Runtime takes no ${input.datatype} here`)
  if (input.datatype === 'BYTES') return new ort.Tensor('string', textValues(input.data), input.shape)
  const { data } = input
  // ort.Tensor turns half floats into a Float16Array, which the binding does not read; it reads their bits.
  if (input.datatype === 'FP16') return { type, dims: input.shape, data, location: 'cpu' } as unknown as ort.Tensor
  return new ort.Tensor(type as 'float32', data as Float32Array, input.shape)
}

function fromOrt(output: ort.Tensor, datatype: Datatype): Tensor {
  const shape = [...output.dims]
  if (datatype === 'BYTES')
    return { datatype, shape, data: output.data.length === 0 ? bytesColumn([]) : textColumn(output.data as string[]) }
  const data = output.data as unknown as FixedData
  if (datatype === 'FP16') return { datatype, shape, data: new Uint16Array(data.buffer, data.byteOffset, data.length) }
  return { datatype, shape, data }
}

function describe(session: ort.InferenceSession, path: string): OnnxDescription {
  const rows = new Set<number | string>()
  const read = (values: readonly ort.InferenceSession.ValueMetadata[], kind: string): Signature =>
    new Map(values.map((value) => [value.name, columnType(value, `${path}: ${kind} "${value.name}"`, kind === 'input' ? rows : undefined)]))
  const signature = { inputs: read(session.inputMetadata, 'input'), outputs: read(session.outputMetadata, 'output') }
  const fixed = [...rows].filter((size) => typeof size === 'number')
  const other = fixed.find((size) => size !== 1)
  if (other !== undefined)
    throw new MeshError('FAILED_PRECONDITION', `${path} takes exactly ${other} rows: export it with a symbolic first dimension, or with 1`)
  return { signature, maxBatchRows: fixed.length > 0 ? 1 : Infinity }
}

/** The type of one row; adds the size of the first dimension to `rows`. */
function columnType(value: ort.InferenceSession.ValueMetadata, what: string, rows: Set<number | string> | undefined): ColumnType {
  if (!value.isTensor)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `${what} is no tensor but a sequence or map (ZipMap makes those): export the model without it, as with zipmap=False`,
    )
  const datatype = datatypes[value.type]
  if (datatype === undefined)
    throw new MeshError('FAILED_PRECONDITION', `${what} has element type ${value.type}, which the protocol cannot carry`)
  const [row, ...rowShape] = value.shape
  if (row === undefined) throw new MeshError('FAILED_PRECONDITION', `${what} has no declared shape: its first dimension must be the row`)
  rows?.add(row)
  return { datatype, rowShape: rowShape.map((size) => (typeof size === 'number' ? size : -1)) }
}
