import type { Code } from '@spillway/core'
import { MeshError } from '@spillway/core'
import type { ModelSignature } from '../backend.ts'

/**
 * How a model worker and its owner talk. Tensors and the bell that says that they are there are in shared memory: a run by message costs some 10 µs more of
 * the caller's thread and copies tensors twice more. Messages bring what is rare: the model's description, larger regions, errors.
 */

/**
 * Words of the control block (Int32): each side rings by adding to its own, and waits for a change of the other's. A reply that comes as a message rings
 * nothing, since its bell could be heard after the message, as that of the next call.
 */
export const requestBell = 0
export const replyBell = 1
/** Of a request: `mailed` where a message for it (new regions) came before. */
export const requestKind = 2
const controlWords = 8

export const inRegion = 0
export const mailed = 1
export const closing = 2

/** Numbers of the control block (Float64) behind its words: µs of the run alone, bytes of the reply's region that are used; the request's deadline, ms. */
export const runUsNumber = 0
export const replyBytesNumber = 1
export const deadlineNumber = 2
const controlNumbers = 3

export interface Control {
  readonly memory: SharedArrayBuffer
  readonly words: Int32Array
  readonly numbers: Float64Array
}

export function makeControl(memory: SharedArrayBuffer = new SharedArrayBuffer(controlWords * 4 + controlNumbers * 8)): Control {
  return { memory, words: new Int32Array(memory, 0, controlWords), numbers: new Float64Array(memory, controlWords * 4, controlNumbers) }
}

/** Tells the other side that something is there for it. */
export function ring(control: Control, bell: number): void {
  Atomics.add(control.words, bell, 1)
  Atomics.notify(control.words, bell)
}

/** What a worker knows once its model is loaded. */
export interface WorkerDescription {
  readonly signature: ModelSignature
  readonly maxBatchRows: number
}

/** To the worker, before the request that is in these regions or whose reply is. */
export interface WorkerMail {
  readonly request?: SharedArrayBuffer
  readonly reply?: SharedArrayBuffer
}

export type WorkerMessage =
  | { readonly kind: 'ready'; readonly description: WorkerDescription }
  /** The reply did not fit: it is in this region, which is the reply's from now on. */
  | { readonly kind: 'grown'; readonly reply: SharedArrayBuffer }
  | { readonly kind: 'failed'; readonly code: Code; readonly message: string; readonly field: string | undefined }

export function failedMessage(thrown: unknown): WorkerMessage {
  const { code, message, field } = MeshError.from(thrown, 'INTERNAL')
  return { kind: 'failed', code, message, field }
}
