import { type Batch, MeshError, type RowMeta, type Tensor } from '@spillway/core'
import { metaTensors, reservedPrefix, takeMeta } from './frame-meta.ts'
import { ModelInferRequest } from './generated/inference/grpc_service.ts'
import { fromRawTensors, toRawTensors } from './tensor-codec.ts'

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
  const { tensors, raw } = toRawTensors([...metaTensors(batch.meta, batch.rowCount), ...ownColumns(batch)])
  const parameters: ModelInferRequest['parameters'] = {
    [schemaParameter]: { parameterChoice: { $case: 'stringParam', value: info.schema } },
    [releaseParameter]: { parameterChoice: { $case: 'stringParam', value: info.release } },
  }
  return { modelName: info.target, modelVersion: '', id: '', parameters, inputs: tensors, outputs: [], rawInputContents: raw }
}

function ownColumns(batch: Batch): ReadonlyMap<string, Tensor> {
  for (const name of batch.columns.keys()) {
    if (name.startsWith(reservedPrefix)) throw new MeshError('INTERNAL', `column "${name}": names that begin with "${reservedPrefix}" are reserved`)
  }
  return batch.columns
}

/**
 * The reverse of `toInferRequest`. Fixed-width columns share the message's memory where they are aligned.
 * @throws MeshError INVALID_ARGUMENT naming the tensor that is wrong and what was expected.
 */
export function fromInferRequest(message: ModelInferRequest): Frame {
  const columns = fromRawTensors(message.inputs, message.rawInputContents)
  const { rowCount, meta }: { rowCount: number; meta: RowMeta } = takeMeta(columns)
  for (const [name, { shape }] of columns) {
    if (name.startsWith(reservedPrefix)) throw new MeshError('INVALID_ARGUMENT', `tensor "${name}": unknown metadata; a newer release made this frame`, { field: name })
    if (shape[0] !== rowCount) {
      throw new MeshError('INVALID_ARGUMENT', `tensor "${name}": shape [${shape.join(', ')}] must begin with ${rowCount}, the frame's rows`, { field: name })
    }
  }
  const info = { schema: textParameter(message, schemaParameter), release: textParameter(message, releaseParameter), target: message.modelName }
  return { batch: { rowCount, meta, columns }, info }
}

function textParameter(message: ModelInferRequest, name: string): string {
  const choice = Object.hasOwn(message.parameters, name) ? message.parameters[name]?.parameterChoice : undefined
  if (choice?.$case !== 'stringParam') throw new MeshError('INVALID_ARGUMENT', `this is no frame: parameter "${name}" must be a string`, { field: name })
  return choice.value
}

/** A frame as bytes: what a record of an internal topic holds. */
export function encodeFrame(batch: Batch, info: FrameInfo): Uint8Array {
  return ModelInferRequest.encode(toInferRequest(batch, info)).finish()
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
