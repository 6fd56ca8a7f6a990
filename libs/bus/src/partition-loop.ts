import { MeshError } from '@spillway/core'
import { backoffMs, pause } from './backoff.ts'
import { orAborted } from './or-aborted.ts'
import type { Attempt, Handler, Outputs, ProcessOptions, ProcessorEvent, Slice } from './port.ts'
import type { Slots } from './slots.ts'
import { stampRecheckMs, stampRefusal } from './stamp.ts'

export interface PartitionLoopOptions {
  readonly topic: string
  readonly partition: number
  readonly process: ProcessOptions
  readonly handle: Handler
  /** Places for handlers. */
  readonly slots: Slots
  readonly onEvent: (event: ProcessorEvent) => void
}

/** What an adapter does on a partition that it owns. */
export interface PartitionWork {
  /** The one thing that there is to do now: to find the position, to process a slice, or to `rest`. */
  step(): Promise<void>
  /** A step has failed, for the `attempt`th time on end. Resolves when the next may be tried. */
  failed(error: unknown, attempt: number): Promise<void>
  /** No step is begun any more: leaves things in order. Does not throw. */
  end(): Promise<void>
}

/** The most that is waited between two attempts. */
const handlerBackoffLimitMs = 10_000
export const brokerBackoffLimitMs = 2000

/**
 * The work on one input partition, one step after the other, until it is to end.
 * new -> running (start) -> finishing (finish: no more steps) -> halted (what is in flight is given up: its grace is over, or the partition is another's).
 */
export class PartitionLoop {
  readonly #options: PartitionLoopOptions
  readonly #finish = new AbortController()
  readonly #halt = new AbortController()
  readonly #found = Promise.withResolvers<void>()
  /** Its position has another stamp. */
  #isRefused = false
  #wake: (() => void) | undefined
  #running: Promise<void> | undefined
  /** First offset not yet committed. */
  committedOffset = 0n

  constructor(options: PartitionLoopOptions) {
    this.#options = options
  }

  /** Fires when no more steps are begun. */
  get finishing(): AbortSignal {
    return this.#finish.signal
  }

  /** Fires when what is in flight is given up. */
  get halted(): AbortSignal {
    return this.#halt.signal
  }

  /** Resolves when its position has been found for the first time, or it has ended. */
  get found(): Promise<void> {
    return this.#found.promise
  }

  positionFound(): void {
    this.#found.resolve()
  }

  start(work: PartitionWork): void {
    this.#running ??= this.#run(work)
  }

  async #run(work: PartitionWork): Promise<void> {
    let failures = 0
    while (!this.finishing.aborted) {
      try {
        await work.step()
        failures = 0
      } catch (error) {
        if (!this.halted.aborted) await work.failed(error, ++failures)
      }
    }
    await work.end()
    this.#found.resolve()
  }

  /** Resolves when the step in flight has ended; past `graceMs` halts. */
  async finish(graceMs: number): Promise<void> {
    this.#finish.abort()
    this.wake()
    const timer = setTimeout(() => this.halt(), graceMs)
    this.halted.addEventListener('abort', () => clearTimeout(timer), { once: true })
    await this.#running
    this.halt()
  }

  /** Gives up what is in flight, at once. */
  halt(): void {
    this.#finish.abort()
    this.#halt.abort()
    this.wake()
  }

  /** Until there may be something to do: woken, told to finish, or past the limit. */
  async rest(limitMs?: number): Promise<void> {
    if (this.finishing.aborted) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    const timer = limitMs === undefined ? undefined : setTimeout(resolve, limitMs)
    await promise
    clearTimeout(timer)
  }

  wake(): void {
    this.#wake?.()
  }

  /** The handler's outputs; undefined where it was given up. */
  async handle(slice: Slice, attempt: Attempt): Promise<Outputs | undefined> {
    const { slots, handle } = this.#options
    if (!(await slots.take(this.finishing))) return undefined
    try {
      return await orAborted(handle(slice, this.halted, attempt), this.halted)
    } finally {
      slots.release()
    }
  }

  /** Whether the position rests on something else: it is looked at again after a while. */
  async refused(found: { readonly offset: bigint; readonly stamp: string | undefined } | undefined): Promise<boolean> {
    const { topic, partition, process, onEvent } = this.#options
    const error = stampRefusal(`"${topic}"/${partition}`, process, found?.stamp)
    const before = this.#isRefused
    this.#isRefused = error !== undefined
    if (error === undefined) {
      if (before) onEvent({ kind: 'assigned', partitions: [{ topic, partition }] })
      return false
    }
    if (!before) onEvent({ kind: 'refused', topic, partition, error })
    this.committedOffset = found!.offset
    this.#found.resolve()
    await pause(stampRecheckMs, this.finishing)
    return true
  }

  /** The position is not in the log, or no more. */
  skipped(from: bigint, to: bigint, attempt = 1): void {
    this.retrying(attempt, 0, new MeshError('OUT_OF_RANGE', `offset ${from} is not in the log: going on at ${to}`))
  }

  retrying(attempt: number, delayMs: number, error: MeshError): void {
    const { topic, partition, onEvent } = this.#options
    onEvent({ kind: 'retrying', topic, partition, attempt, delayMs, error })
  }

  /** Waits before the next attempt: not as long where the broker or a store is away; the broker's first failure is no news of the slice. */
  async backOff(error: MeshError, attempt: number, isAway: boolean): Promise<void> {
    const delayMs = backoffMs(attempt, isAway || error.isOutage ? brokerBackoffLimitMs : handlerBackoffLimitMs)
    if (!isAway || attempt > 1) this.retrying(attempt, delayMs, error)
    await pause(delayMs, this.finishing)
  }
}
