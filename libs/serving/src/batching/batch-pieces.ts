import { concatTensors, type MeshError, sliceTensor, type Tensor } from '@spillway/core'
import type { Tensors } from '../backend.ts'
import type { RequestSpan } from './request-span.ts'

/** A request: settled once, when its last piece is there or its first fails. */
export interface Pending {
  readonly pieces: (Tensors | undefined)[]
  missing: number
  /** Of its rows and pieces, those in the queue. */
  waitingRows: number
  waitingPieces: number
  settled: boolean
  /** ms since the epoch. */
  readonly deadlineMs: number
  /** By performance.now(), as all below: from when on it has waited longer than it may. */
  readonly waitsUntilMs: number
  readonly arrivedMs: number
  /** When the first of its rows left the queue. */
  begunMs: number | undefined
  /** Of the runs that its rows were in. */
  inputMs: number
  inferMs: number
  outputMs: number
  readonly span: RequestSpan | undefined
  /** Called when it is settled without an answer: by the runs that its rows are in. */
  whenGone: (() => void)[] | undefined
  settle(error: MeshError | undefined): void
}

/** What waits for a run: a request, or a part of one that is larger than a batch. */
export interface Piece {
  readonly request: Pending
  readonly index: number
  readonly inputs: Tensors
  readonly rowCount: number
  /** Pieces are run together only where their rows have the same shape. */
  readonly shapeKey: string
}

export function rowsOf(batch: readonly Piece[]): number {
  return batch.reduce((rows, piece) => rows + piece.rowCount, 0)
}

function mapTensors(tensors: Tensors, change: (tensor: Tensor) => Tensor): Tensors {
  const changed = new Map<string, Tensor>()
  for (const [name, tensor] of tensors) changed.set(name, change(tensor))
  return changed
}

/** Rows `start` (inclusive) to `end` (exclusive) of every tensor, sharing the data. */
export function sliceRows(tensors: Tensors, start: number, end: number): Tensors {
  return mapTensors(tensors, (tensor) => sliceTensor(tensor, start, end))
}

/** Each piece's rows of a run's outputs. */
export function split(batch: readonly Piece[], outputs: Tensors): readonly Tensors[] {
  if (batch.length === 1) return [outputs]
  let start = 0
  return batch.map(({ rowCount }) => {
    const from = start
    start += rowCount
    return sliceRows(outputs, from, start)
  })
}

/** A request's outputs from those of its pieces. */
export function joined(pieces: readonly Tensors[]): Tensors {
  return joinParts(pieces, pieces[0]!.keys())
}

/** The rows of all parts, one part after the other: they fit one signature and have the same row shapes. */
export function joinParts(parts: readonly Tensors[], names: Iterable<string>): Tensors {
  if (parts.length === 1) return parts[0]!
  const inputs = new Map<string, Tensor>()
  for (const name of names) inputs.set(name, concatTensors(parts.map((part) => part.get(name)!)))
  return inputs
}
