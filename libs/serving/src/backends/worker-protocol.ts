import type { Code, FixedData, Tensor } from '@spillway/core'
import { MeshError } from '@spillway/core'
import type { Tensors } from '../backend.ts'
import type { OnnxDescription } from './onnx-session.ts'

/** What a model worker is started with (`workerData`). */
export interface WorkerTask {
  readonly path: string
  readonly threads: number
}

/** To the worker, one at a time: the next is sent when the reply is there. */
export interface WorkerRequest {
  readonly inputs: Tensors
}

export type WorkerReply =
  | { readonly kind: 'ready'; readonly description: OnnxDescription }
  /** `runUs` is the run alone: the caller knows what the hop added. */
  | { readonly kind: 'done'; readonly outputs: Tensors; readonly runUs: number }
  | { readonly kind: 'failed'; readonly code: Code; readonly message: string; readonly field: string | undefined }

export function failedReply(thrown: unknown): WorkerReply {
  const { code, message, field } = MeshError.from(thrown, 'INTERNAL')
  return { kind: 'failed', code, message, field }
}

/**
 * Copies of the tensors that another thread may have for good, and their buffers, to be transferred. Copied, since the sender keeps its own
 * and a view would drag its whole buffer along; transferred, since cloning would copy twice (1,024 rows of 15 FP32: 165 µs a hop cloned, 116 so).
 */
export function movable(tensors: Tensors): { readonly tensors: Tensors; readonly buffers: ArrayBuffer[] } {
  const buffers: ArrayBuffer[] = []
  const copy = <Data extends FixedData>(data: Data): Data => {
    const own = data.slice() as Data
    buffers.push(own.buffer as ArrayBuffer)
    return own
  }
  const copies = new Map<string, Tensor>()
  for (const [name, { datatype, shape, data }] of tensors) {
    if ('bytes' in data) copies.set(name, { datatype: 'BYTES', shape, data: { bytes: copy(data.bytes), offsets: copy(data.offsets) } })
    else copies.set(name, { datatype, shape, data: copy(data) } as Tensor)
  }
  return { tensors: copies, buffers }
}
