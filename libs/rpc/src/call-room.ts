import type { Admission, NoRoom, Place } from './admission.ts'
import { AdmissionLimit } from './admission-limit.ts'
import { Allowance } from './allowance.ts'

export interface CallRoomOptions {
  /** Calls in flight at most; for those with a deadline as many as are answered in time (`AdmissionLimit`). */
  readonly maxCalls: number
  /** Bytes of their requests; one call alone may have more. */
  readonly maxBytes: number
  /** Told of each call that there was no room for. */
  readonly refused: (reason: NoRoom) => void
}

/** Of calls with a deadline, before it is known how many are answered in time: what the event loop serves of small ones in about 30 ms. */
const firstLimit = 512

/** What compressed tensors grow by at most, near enough: to count each request as the largest that is allowed would leave room for a handful. */
const compression = 8

/** What is kept of a caller's time, for the way there and back and for those that wait longer than most: a quarter, at most this. */
const longestReserveMs = 100
const reservedPart = 4

/** A caller that gives less is not counted as answered too late: nobody may be able to. */
const leastTimeMs = 50

/** Room for the calls of a service, by whichever protocol they come. */
export class CallRoom implements Admission {
  readonly #maxCalls: number
  readonly #limit: AdmissionLimit
  readonly #bytes: Allowance
  readonly #refused: (reason: NoRoom) => void
  #inFlight = 0

  constructor({ maxCalls, maxBytes, refused }: CallRoomOptions) {
    this.#maxCalls = maxCalls
    this.#limit = new AdmissionLimit(maxCalls, firstLimit)
    this.#bytes = new Allowance(maxBytes)
    this.#refused = refused
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** With how many in flight a call with a deadline is taken at present. */
  get limit(): number {
    return this.#limit.value
  }

  get bytesInFlight(): number {
    return this.#bytes.used
  }

  admit(patient: boolean = false): Place | undefined {
    if (this.#inFlight >= (patient ? this.#maxCalls : this.#limit.value)) {
      this.#refused('calls')
      return undefined
    }
    const began = { atMs: performance.now(), inFlight: ++this.#inFlight }
    let heldCalls = 1
    let heldBytes = 0
    return {
      reserve: (mostBytes, sentBytes = mostBytes) => {
        const bytes = Math.min(mostBytes, sentBytes * compression)
        const room = heldCalls > 0 && this.#bytes.take(bytes)
        if (room) heldBytes += bytes
        else this.#refused('bytes')
        return room
      },
      answered: (leftMs, givenMs) => {
        if (givenMs < leastTimeMs) return
        if (leftMs >= Math.min(longestReserveMs, givenMs / reservedPart)) this.#limit.inTime(this.#inFlight)
        else this.#limit.late(began, performance.now())
      },
      release: () => {
        this.#inFlight -= heldCalls
        this.#bytes.give(heldBytes)
        heldCalls = 0
        heldBytes = 0
      },
    }
  }
}
