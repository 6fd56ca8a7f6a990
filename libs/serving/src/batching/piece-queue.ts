import type { Pending, Piece } from './batch-pieces.ts'

export interface PieceQueueOptions {
  /** As many as fit, or are enough. */
  readonly runRows: number
  /** Ascending, none above the most that fit. */
  readonly preferredBatchSizes: readonly number[]
  /** Whether a request that has waited too long goes behind the others; otherwise its own timer ends it. */
  readonly delays: boolean
}

/** How far a batch looks for rows of its shape, where they differ. */
const furthestLook = 1024

/** Pieces in order of arrival, those that have waited longer than they may behind the others; batches are cut from the front. */
export class PieceQueue {
  readonly #options: PieceQueueOptions
  #waiting: Piece[] = []
  /** Behind: their time to wait is over. */
  #overdue: Piece[] = []
  /** Pieces whose request is settled: skipped when taken, swept when they are the most. */
  #dead = 0
  #rows = 0

  constructor(options: PieceQueueOptions) {
    this.#options = options
  }

  /** Of requests that are not settled. */
  get rows(): number {
    return this.#rows
  }

  get empty(): boolean {
    return this.#waiting.length === 0 && this.#overdue.length === 0
  }

  /** Of the piece that has waited longest; undefined where none waits. */
  get oldestMs(): number | undefined {
    return (this.#overdue[0] ?? this.#waiting[0])?.request.arrivedMs
  }

  push(piece: Piece): void {
    this.#waiting.push(piece)
    this.#rows += piece.rowCount
  }

  /** What the settled request has in here no longer counts. */
  forget(request: Pending): void {
    this.#rows -= request.waitingRows
    this.#dead += request.waitingPieces
    request.waitingRows = 0
    request.waitingPieces = 0
    if (this.#dead * 2 <= this.#waiting.length + this.#overdue.length) return
    this.#waiting = this.#waiting.filter((piece) => !piece.request.settled)
    this.#overdue = this.#overdue.filter((piece) => !piece.request.settled)
    this.#dead = 0
  }

  /** The rows that the next batch may have: the largest preferred size that is reached, else as many as fit. */
  get nextRows(): number {
    const { runRows, preferredBatchSizes } = this.#options
    return preferredBatchSizes.findLast((size) => size <= this.#rows) ?? runRows
  }

  /** Whether no later arrival would change the next batch. */
  get full(): boolean {
    const { runRows, preferredBatchSizes } = this.#options
    return this.#rows >= (preferredBatchSizes[0] ?? runRows)
  }

  /**
   * Cuts the next batch: whole pieces of one shape, in order, of at most `nextRows` rows; a single piece may have more.
   * @param fits whether a piece that would be in a batch of so many rows can still make it; one that cannot is left out, and `late` has its request
   */
  take(nowMs: number, fits: (request: Pending, rows: number) => boolean, late: Pending[]): Piece[] {
    const batch: Piece[] = []
    if (this.#options.delays) this.#setBack(nowMs)
    const limit = this.nextRows
    this.#waiting = this.#takeFrom(this.#waiting, batch, limit, fits, late)
    if (batch.length === 0) this.#overdue = this.#takeFrom(this.#overdue, batch, limit, fits, late)
    return batch
  }

  #takeFrom(pieces: Piece[], batch: Piece[], limit: number, fits: (request: Pending, rows: number) => boolean, late: Pending[]): Piece[] {
    const passed: Piece[] = []
    let rows = 0
    let taken = 0
    for (; taken < pieces.length && rows < limit; taken++) {
      const piece = pieces[taken]!
      const { request, rowCount } = piece
      if (request.settled) {
        this.#dead--
        continue
      }
      if (batch.length > 0 && piece.shapeKey !== batch[0]!.shapeKey) {
        if (passed.push(piece) > furthestLook) break
        continue
      }
      if (batch.length > 0 && rows + rowCount > limit) break
      this.#rows -= rowCount
      request.waitingRows -= rowCount
      request.waitingPieces--
      if (!fits(request, rows + rowCount)) {
        late.push(request)
        continue
      }
      batch.push(piece)
      rows += rowCount
    }
    if (passed.length === 0) {
      pieces.splice(0, taken)
      return pieces
    }
    return passed.concat(pieces.slice(taken))
  }

  /** Puts those that have waited too long behind the others. */
  #setBack(nowMs: number): void {
    if (!this.#waiting.some(({ request }) => request.waitsUntilMs <= nowMs)) return
    const inTime: Piece[] = []
    for (const piece of this.#waiting) (piece.request.waitsUntilMs <= nowMs ? this.#overdue : inTime).push(piece)
    this.#waiting = inTime
  }
}
