import { type Batch, MeshError, type Tensor } from '@spillway/core'
import { addMeta, readMeta, reservedPrefix } from './frame-meta.ts'
import { ModelInferRequest } from './generated/inference/grpc_service.ts'
import { assertOneEach, fromRawTensors, toRawTensors, type WireTensor } from './tensor-codec.ts'

/** What a frame says of itself, for whoever meets it later. */
export interface FrameInfo {
  /** Hash of the columns that the rows have. */
  readonly schema: string
  /** The release that made it. */
  readonly release: string
  /** What it is for: the model's name on a model call, else the stage or sink. */
  readonly target: string
}

export interface Frame {
  readonly batch: Batch
  readonly info: FrameInfo
}

const schemaParameter = `${reservedPrefix}schema`
const releaseParameter = `${reservedPrefix}release`

/**
 * A batch as an OIP ModelInferRequest with raw contents: its columns are inputs, so is its metadata, under reserved names. Shares the
 * memory of fixed-width columns. @throws MeshError INTERNAL where a column has a reserved name.
 */
export function toInferRequest(batch: Batch, info: FrameInfo): ModelInferRequest {
  const { tensors, raw } = toRawTensors(ownColumns(batch))
  addMeta(batch.meta, batch.rowCount, { tensors, raw })
  const parameters: ModelInferRequest['parameters'] = {
    [schemaParameter]: { parameterChoice: { $case: 'stringParam', value: info.schema } },
    [releaseParameter]: { parameterChoice: { $case: 'stringParam', value: info.release } },
  }
  return { modelName: info.target, modelVersion: '', id: '', parameters, inputs: tensors, outputs: [], rawInputContents: raw }
}

function ownColumns(batch: Batch): ReadonlyMap<string, Tensor> {
  for (const name of batch.columns.keys()) {
    if (name.startsWith(reservedPrefix))
      throw new MeshError('INTERNAL', `column "${name}": names that begin with "${reservedPrefix}" are reserved`)
  }
  return batch.columns
}

/**
 * The reverse of `toInferRequest`. Fixed-width columns share the message's memory where they are aligned.
 * @throws MeshError INVALID_ARGUMENT naming the tensor that is wrong and what was expected.
 */
export function fromInferRequest(message: ModelInferRequest): Frame {
  const { inputs, rawInputContents: raw } = message
  if (raw.length > 0) assertOneEach(inputs, raw)
  const own = { wires: [] as WireTensor[], raw: [] as Uint8Array[] }
  const metadata = new Map<string, { wire: WireTensor; raw: Uint8Array | undefined }>()
  for (const [i, wire] of inputs.entries()) {
    if (!wire.name.startsWith(reservedPrefix)) {
      own.wires.push(wire)
      if (raw.length > 0) own.raw.push(raw[i]!)
    } else if (metadata.has(wire.name))
      throw new MeshError('INVALID_ARGUMENT', `tensor "${wire.name}": is given twice`, { field: wire.name })
    else metadata.set(wire.name, { wire, raw: raw[i] })
  }
  const { rowCount, meta } = readMeta(metadata)
  const columns = fromRawTensors(own.wires, own.raw)
  for (const [name, { shape }] of columns) {
    if (shape[0] !== rowCount) {
      throw new MeshError(
        'INVALID_ARGUMENT',
        `tensor "${name}": shape [${shape.join(', ')}] must begin with ${rowCount}, the frame's rows`,
        { field: name },
      )
    }
  }
  const info = {
    schema: textParameter(message, schemaParameter),
    release: textParameter(message, releaseParameter),
    target: message.modelName,
  }
  return { batch: { rowCount, meta, columns }, info }
}

function textParameter(message: ModelInferRequest, name: string): string {
  const choice = Object.hasOwn(message.parameters, name) ? message.parameters[name]?.parameterChoice : undefined
  if (choice?.$case !== 'stringParam')
    throw new MeshError('INVALID_ARGUMENT', `this is no frame: parameter "${name}" must be a string`, { field: name })
  return choice.value
}

/** raw_input_contents, field 7, length-delimited: the last field of the message. */
const rawContentsTag = (7 << 3) | 2

/**
 * A frame as bytes: what a record of an internal topic holds. The generated code writes all but the raw contents, which are most of it;
 * those are put behind it into a buffer of the right size, where the generated writer would grow and copy its own.
 */
export function encodeFrame(batch: Batch, info: FrameInfo): Uint8Array {
  const { rawInputContents: raw, ...described } = toInferRequest(batch, info)
  const head = ModelInferRequest.encode({ ...described, rawInputContents: [] }).finish()
  let size = head.byteLength
  for (const { byteLength } of raw) size += 1 + varintBytes(byteLength) + byteLength
  const frame = new Uint8Array(size)
  frame.set(head)
  let end = head.byteLength
  for (const content of raw) {
    frame[end++] = rawContentsTag
    end = writeVarint(frame, end, content.byteLength)
    frame.set(content, end)
    end += content.byteLength
  }
  return frame
}

function varintBytes(value: number): number {
  let count = 1
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) count++
  return count
}

function writeVarint(target: Uint8Array, at: number, value: number): number {
  let end = at
  let rest = value
  for (; rest > 0x7f; rest >>>= 7) target[end++] = (rest & 0x7f) | 0x80
  target[end++] = rest
  return end
}

/** @throws MeshError INVALID_ARGUMENT where the bytes are no frame. */
export function decodeFrame(bytes: Uint8Array): Frame {
  let message: ModelInferRequest
  try {
    message = ModelInferRequest.decode(bytes)
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', 'this is no frame: the bytes are not a ModelInferRequest', { cause: error })
  }
  return fromInferRequest(message)
}
