import { MeshError } from '@spillway/core'
import type { Tensors } from '../backend.ts'
import { joined, type Pending } from './batch-pieces.ts'
import type { RequestSpan } from './request-span.ts'

/** setTimeout's limit. */
const maxTimerMs = 0x7fffffff

export interface PendingSetup {
  readonly rows: number
  /** Runs that its rows are cut into. */
  readonly pieceCount: number
  /** ms since the epoch, and how far away that is. */
  readonly deadlineMs: number
  readonly leftMs: number
  /** How long it may wait in the queue; Infinity for ever. */
  readonly waitMs: number
  /** Whether it is refused when that is over. */
  readonly refusesThen: boolean
  readonly signal: AbortSignal
  readonly span: RequestSpan | undefined
  /** Called once, before the caller is told. */
  readonly onSettled: (request: Pending, error: MeshError | undefined) => void
  readonly resolve: (outputs: Tensors) => void
  readonly reject: (error: MeshError) => void
}

/** A request that ends by itself when its deadline passes, it has waited too long or its caller gives it up. */
export function pendingRequest(setup: PendingSetup): Pending {
  const { rows, pieceCount, deadlineMs, leftMs, waitMs, signal, span } = setup
  const arrivedMs = performance.now()
  const cancel = (): void => request.settle(cancelled(signal))
  const request: Pending = {
    pieces: new Array<Tensors | undefined>(pieceCount),
    missing: pieceCount,
    waitingRows: rows,
    waitingPieces: pieceCount,
    settled: false,
    deadlineMs,
    waitsUntilMs: arrivedMs + waitMs,
    arrivedMs,
    begunMs: undefined,
    inputMs: 0,
    inferMs: 0,
    outputMs: 0,
    span,
    whenGone: undefined,
    settle: (error) => {
      if (request.settled) return
      request.settled = true
      clearTimeout(deadline)
      clearTimeout(patience)
      signal.removeEventListener('abort', cancel)
      setup.onSettled(request, error)
      if (error === undefined) setup.resolve(joined(request.pieces as Tensors[]))
      else {
        setup.reject(error)
        for (const gone of request.whenGone ?? []) gone()
      }
    },
  }
  const giveUp = (): void => {
    if (request.begunMs === undefined) request.settle(waitedTooLong(waitMs))
  }
  const deadline = leftMs <= maxTimerMs ? setTimeout(() => request.settle(expired()), leftMs) : undefined
  const patience = setup.refusesThen && waitMs <= maxTimerMs ? setTimeout(giveUp, waitMs) : undefined
  signal.addEventListener('abort', cancel, { once: true })
  return request
}

export function cancelled(signal: AbortSignal): MeshError {
  return signal.reason instanceof MeshError
    ? signal.reason
    : new MeshError('CANCELLED', 'the caller no longer wants the answer', { cause: signal.reason })
}

export function expired(): MeshError {
  return new MeshError('DEADLINE_EXCEEDED', 'the deadline passed before the model had an answer, or would have')
}

function waitedTooLong(waitMs: number): MeshError {
  return new MeshError('DEADLINE_EXCEEDED', `the request waited in the model's queue for longer than the ${waitMs} ms that it may`)
}
