import type { Bus, RecordHeaders, RecordPosition } from '@spillway/bus'
import { bytesColumn, MeshError } from '@spillway/core'
import type { PredictResult } from '@spillway/mesh'
import { type Admission, AdmissionLimit, Allowance, type Place } from '@spillway/rpc'
import type { Catalog } from './catalog.ts'

export interface CallLimits {
  /** Predict and publish calls in flight, fewer while deadlines are missed; beyond it RESOURCE_EXHAUSTED. */
  readonly maxCallsInFlight: number
  /** Events of calls in flight; beyond it RESOURCE_EXHAUSTED, unless no other is. */
  readonly maxRowsInFlight: number
  /** Bytes of the requests of calls in flight; beyond it RESOURCE_EXHAUSTED, unless no other is. */
  readonly maxBytesInFlight: number
  readonly maxEventsPerCall: number
  /** For a caller that sets no deadline. */
  readonly defaultTimeoutMs: number
}

export interface PredictInput {
  readonly signal: AbortSignal
  /** ms since the epoch; Infinity where the caller sets none. */
  readonly deadlineMs: number
  readonly traceParent: string
  readonly principal: string
}

/** An event to publish. `key` counts only where the topic's input does not say which field the key is. */
export interface NewEvent {
  readonly key?: Uint8Array
  readonly value: Uint8Array
  readonly headers?: RecordHeaders
}

export type Refusal = 'calls' | 'rows' | 'bytes'

const noKey = new Uint8Array(0)
const unit = { rows: 'events', bytes: 'bytes' }
/** What is kept of a caller's time for the way back, so that a degraded answer still arrives in time: a tenth, at most this. */
const longestReserveMs = 100

/** A caller that gives less is not counted as not answered in time: nobody may be able to. */
const leastTimeMs = 50

/** Predict and publish, whichever protocol asks: it first asks for a place with `admit`. */
export class Calls implements Admission {
  readonly #catalog: Catalog
  readonly #bus: Bus
  readonly #limits: CallLimits
  readonly #refused: (reason: Refusal) => void
  readonly #limit: AdmissionLimit
  readonly #rows: Allowance
  readonly #bytes: Allowance
  /** By itself: a caller that hangs up leaves its events on their way to the bus, and gives its place back. */
  readonly #publishedBytes: Allowance
  #inFlight = 0

  /** @param refused is told of each call that there was no room for */
  constructor(catalog: Catalog, bus: Bus, limits: CallLimits, refused: (reason: Refusal) => void) {
    this.#refused = refused
    this.#catalog = catalog
    this.#bus = bus
    this.#limits = limits
    this.#limit = new AdmissionLimit(limits.maxCallsInFlight)
    this.#rows = new Allowance(limits.maxRowsInFlight)
    this.#bytes = new Allowance(limits.maxBytesInFlight)
    this.#publishedBytes = new Allowance(limits.maxBytesInFlight)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** How many there may be at present. */
  get limit(): number {
    return this.#limit.value
  }

  get rowsInFlight(): number {
    return this.#rows.used
  }

  get bytesInFlight(): number {
    return this.#bytes.used
  }

  /** What is full for a call with a request of so many bytes, which then counts as refused; undefined where there is room. */
  refuses(bytes: number): 'calls' | 'bytes' | undefined {
    const full = this.#inFlight >= this.#limit.value ? 'calls' : this.#bytes.fits(bytes) ? undefined : 'bytes'
    if (full !== undefined) this.#refused(full)
    return full
  }

  /** Takes a place for a call, before anything of it is read; undefined where there is none. */
  admit(): Place | undefined {
    if (this.#inFlight >= this.#limit.value) {
      this.#refused('calls')
      return undefined
    }
    return this.#place(1)
  }

  /** For what is no call: bounds the bytes of its request with those of the calls. */
  readonly requestBytes: Admission = { admit: () => this.#place(0) }

  #place(calls: number): Place {
    this.#inFlight += calls
    let held = true
    let heldBytes = 0
    return {
      reserve: (bytes) => {
        if (!held) return false
        const room = this.#bytes.take(bytes)
        if (room) heldBytes += bytes
        else this.#refused('bytes')
        return room
      },
      release: () => {
        if (held) this.#inFlight -= calls
        this.#bytes.give(heldBytes)
        heldBytes = 0
        held = false
      },
    }
  }

  /** @throws MeshError NOT_FOUND, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, CANCELLED, or what the pipeline throws for the whole call. */
  async predict(pipelineName: string, events: readonly Uint8Array[], input: PredictInput): Promise<readonly PredictResult[]> {
    const pipeline = this.#catalog.pipeline(pipelineName)
    this.#assertCount(events.length)
    if (events.length === 0) return []
    const nowMs = Date.now()
    const leftMs = input.deadlineMs === Infinity ? this.#limits.defaultTimeoutMs : input.deadlineMs - nowMs
    if (leftMs <= 0) throw new MeshError('DEADLINE_EXCEEDED', 'the deadline had passed before the call began')
    const deadlineMs = nowMs + leftMs - Math.min(longestReserveMs, leftMs / 10)
    const run = (): Promise<readonly PredictResult[]> =>
      withinDeadline(input.signal, leftMs, (signal) => pipeline.predict(events, { ...input, signal, deadlineMs }))
    return this.#within(this.#rows, events.length, 'rows', () => (leftMs < leastTimeMs ? run() : this.#watched(run, nowMs, deadlineMs)))
  }

  /** Learns from whether the call is answered by then how many there may be. */
  async #watched(run: () => Promise<readonly PredictResult[]>, atMs: number, dueMs: number): Promise<readonly PredictResult[]> {
    const began = { atMs, inFlight: this.#inFlight }
    const failed = (): void => {
      const nowMs = Date.now()
      if (nowMs >= dueMs) this.#limit.late(began, nowMs)
    }
    try {
      const results = await run()
      if (results.some((result) => 'error' in result && result.error.code === 'DEADLINE_EXCEEDED')) failed()
      else this.#limit.inTime(this.#inFlight)
      return results
    } catch (error) {
      // Its own deadline, or its caller's hanging up at it.
      failed()
      throw error
    }
  }

  /** Resolves when the events are durable. @throws MeshError NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE */
  async publish(topic: string, events: readonly NewEvent[], traceHeaders: RecordHeaders): Promise<readonly RecordPosition[]> {
    const reader = this.#catalog.reader(topic)
    this.#assertCount(events.length)
    if (events.length === 0) return []
    const keys = events.map((event) => reader.keyOf(topic, event.value) ?? event.key ?? noKey)
    const values = bytesColumn(events.map((event) => event.value))
    return this.#within(this.#rows, events.length, 'rows', () =>
      this.#within(this.#publishedBytes, values.bytes.length, 'bytes', () =>
        this.#bus.publish(topic, {
          count: events.length,
          ...(keys.some((key) => key.length > 0) ? { keys: bytesColumn(keys) } : {}),
          values,
          headers: events.map((event) => ({ ...traceHeaders, ...event.headers })),
        }),
      ),
    )
  }

  #assertCount(count: number): void {
    const { maxEventsPerCall } = this.#limits
    if (count > maxEventsPerCall)
      throw new MeshError('INVALID_ARGUMENT', `${count} events in one call, ${maxEventsPerCall} are allowed: split them`, {
        field: 'events',
      })
  }

  /** @throws MeshError RESOURCE_EXHAUSTED */
  async #within<T>(allowance: Allowance, amount: number, what: 'rows' | 'bytes', run: () => Promise<T>): Promise<T> {
    if (!allowance.take(amount)) {
      this.#refused(what)
      throw new MeshError('RESOURCE_EXHAUSTED', `${allowance.used} ${unit[what]} are in flight already: send fewer, or later`)
    }
    try {
      return await run()
    } finally {
      allowance.give(amount)
    }
  }
}

/** Runs with a signal that fires when the caller goes or the time is over, and then waits no longer. */
async function withinDeadline<T>(caller: AbortSignal, leftMs: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const { signal } = controller
  const givenUp = new Promise<never>((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as MeshError), { once: true })
  })
  const cancel = (): void => controller.abort(new MeshError('CANCELLED', 'the caller went away', { cause: caller.reason }))
  const expire = (): void => controller.abort(new MeshError('DEADLINE_EXCEEDED', `no answer within ${Math.round(leftMs)} ms`))
  const timer = setTimeout(expire, Math.min(leftMs, 0x7fffffff))
  caller.addEventListener('abort', cancel, { once: true })
  try {
    if (caller.aborted) cancel()
    return await Promise.race([givenUp, run(signal)])
  } finally {
    clearTimeout(timer)
    caller.removeEventListener('abort', cancel)
  }
}
