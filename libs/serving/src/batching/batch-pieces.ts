import { concatTensors, type MeshError, sliceTensor, type Tensor } from '@spillway/core'
import type { Tensors } from '../backend.ts'

/** A request: settled once, when its last piece is there or its first fails. */
export interface Pending {
  readonly pieces: (Tensors | undefined)[]
  missing: number
  /** Of its rows and pieces, those in the queue. */
  waitingRows: number
  waitingPieces: number
  settled: boolean
  readonly deadlineMs: number
  /** By performance.now(), as all below; begun: when the first of its rows left the queue. */
  readonly arrivedMs: number
  begunMs: number | undefined
  /** Of the runs that its rows were in. */
  inputMs: number
  inferMs: number
  outputMs: number
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
  readonly arrivedMs: number
}

export function rowsOf(batch: readonly Piece[]): number {
  return batch.reduce((rows, piece) => rows + piece.rowCount, 0)
}

export function mapTensors(tensors: Tensors, change: (tensor: Tensor) => Tensor): Tensors {
  return new Map(Array.from(tensors, ([name, tensor]) => [name, change(tensor)]))
}

/** Each piece's rows of a run's outputs. */
export function split(batch: readonly Piece[], outputs: Tensors): readonly Tensors[] {
  if (batch.length === 1) return [outputs]
  let start = 0
  return batch.map(({ rowCount }) => {
    const from = start
    start += rowCount
    return mapTensors(outputs, (tensor) => sliceTensor(tensor, from, from + rowCount))
  })
}

/** A request's outputs from those of its pieces. */
export function joined(pieces: readonly Tensors[]): Tensors {
  const [first] = pieces as [Tensors]
  if (pieces.length === 1) return first
  return new Map(Array.from(first.keys(), (name) => [name, concatTensors(pieces.map((piece) => piece.get(name)!))]))
}

/** The rows of all parts, one part after the other: they fit one signature and have the same row shapes. */
export function joinParts(parts: readonly Tensors[], names: Iterable<string>): Tensors {
  if (parts.length === 1) return parts[0]!
  const inputs = new Map<string, Tensor>()
  for (const name of names) inputs.set(name, concatTensors(parts.map((part) => part.get(name)!)))
  return inputs
}
