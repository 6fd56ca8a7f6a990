const decrease = 0.7
/** Fewer are late for other reasons, as when the machine stands still; and calls come in groups, of which the rest would be refused for nothing. */
const fewest = 16
/** Share of late answers among the last (by exponential weight) that is taken for too many calls at once, and not for a slow one now and then. */
const tooManyLate = 0.25
const weight = 1 / 32
/** Within this share of where calls came too late last, the limit rises so many times slower: those who wait there come too late all at once. */
const nearFailure = 0.15
const caution = 32

/**
 * How many calls may be in flight: at most `max`, and fewer, down to 16, while what is admitted is answered too late, since it waits behind more than can be
 * served in its time. Down by three tenths where too many are late, once for all that were admitted before; up by one where as many as are
 * allowed were answered in time (additive increase, multiplicative decrease: Chiu and Jain 1989), slowly around where it failed last (as CUBIC, RFC 9438).
 */
export class AdmissionLimit {
  readonly #max: number
  #limit: number
  #lateShare = 0
  /** Most that a late call was in flight with. */
  #lateAmong = 0
  #failedAt = Infinity
  #loweredMs = -Infinity

  /** @param first how many there may be before anything is known */
  constructor(max: number, first: number = max) {
    this.#max = max
    this.#limit = Math.min(max, first)
  }

  get value(): number {
    return Math.floor(this.#limit)
  }

  /** A call was answered in time. @param inFlight calls when it was, itself included */
  inTime(inFlight: number): void {
    this.#lateShare *= 1 - weight
    // What was not tried says nothing of a higher limit.
    if (this.#limit >= this.#max || inFlight < this.value) return
    const pace = Math.abs(this.#limit / this.#failedAt - 1) < nearFailure ? caution : 1
    this.#limit = Math.min(this.#max, this.#limit + 1 / (pace * this.#limit))
  }

  /** A call was not answered in time. @param began when it did, in ms of the clock that `nowMs` is of, and among how many calls in flight, itself included */
  late(began: { readonly atMs: number; readonly inFlight: number }, nowMs: number): void {
    if (began.atMs < this.#loweredMs) return
    this.#lateShare += weight * (1 - this.#lateShare)
    this.#lateAmong = Math.max(this.#lateAmong, began.inFlight)
    if (this.#lateShare <= tooManyLate) return
    this.#failedAt = Math.min(this.#limit, this.#lateAmong)
    this.#limit = Math.max(Math.min(fewest, this.#max), decrease * this.#failedAt)
    this.#loweredMs = nowMs
    this.#lateShare = 0
    this.#lateAmong = 0
  }
}
