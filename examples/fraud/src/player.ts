import { setTimeout as sleep } from 'node:timers/promises'
import type { Bus } from '@spillway/bus'
import { type Component, MeshError } from '@spillway/core'
import { topicRecords } from './events.ts'
import type { PlayEvent, Topic } from './play-list.ts'
import { type ResumePoint, resumeFrom } from './resume.ts'
import { readTails } from './tails.ts'
import { buildWorld, dayMs, type SimulationSettings, type World } from './world.ts'

export interface PlayerOptions {
  readonly bus: Bus
  readonly settings: SimulationSettings
  /** Transactions published a second, in wall-clock time; their labels come on top. At 2,000 a simulated day of full size takes 5 s. */
  readonly transactionsPerS: number
  /** Ends before the first event of this simulated day; without end where absent. */
  readonly untilDay?: number
  /** The topics' names where the pipeline gives them others. */
  readonly topics?: Readonly<Record<Topic, string>>
  /** Asked before each batch: true holds the play back, for as long as the pipeline has enough to do. */
  readonly paused?: () => boolean
  /** Told of each publish that failed and is tried again. */
  readonly onRetry?: (error: MeshError, delayMs: number) => void
}

export interface PlayerProgress {
  /** Published by this player since its start. */
  readonly transactions: number
  readonly labels: number
  /** Transactions that the topics held already when this player started. */
  readonly transactionsBefore: number
  /** Simulated time that the play has reached, ms since the epoch; that of the first day's start before the first event. */
  readonly eventTimeMs: number
  readonly pausedForBackpressure: boolean
  readonly finished: boolean
}

const tickMs = 40
/** Events in flight at most, and what has to be looked up after an interruption. */
const maxBatchEvents = 1000
const maxTailRecords = 256_000
const longestRetryDelayMs = 5000

/**
 * Plays a simulation into the input topics at a steady pace, one batch after the other. Started again, it goes on where the topics
 * end, without repeating or losing an event: what was published is read from the topics themselves.
 */
export class SimulationPlayer implements Component {
  readonly #options: PlayerOptions
  readonly #names: Readonly<Record<Topic, string>>
  readonly #world: World
  readonly #stop = new AbortController()
  readonly #published: Record<Topic, number> = { transactions: 0, labels: 0 }
  #transactionsBefore = 0
  #eventTimeMs: number
  #paused = false
  #finished = false
  #playing: Promise<void> = Promise.resolve()

  /** @throws MeshError INVALID_ARGUMENT for settings that describe no simulation. */
  constructor(options: PlayerOptions) {
    if (!(options.transactionsPerS > 0))
      throw new MeshError('INVALID_ARGUMENT', `transactionsPerS must be above 0, not ${options.transactionsPerS}`, {
        field: 'transactionsPerS',
      })
    this.#options = options
    this.#names = options.topics ?? { transactions: 'transactions', labels: 'labels' }
    this.#world = buildWorld(options.settings)
    this.#eventTimeMs = this.#world.startMs
  }

  /** Resolves when the point to go on from is known; then plays. @throws MeshError FAILED_PRECONDITION where a topic is missing. */
  async start(signal: AbortSignal): Promise<void> {
    const point = await this.#resume(signal)
    this.#transactionsBefore = point.transactionsBefore
    this.#eventTimeMs = point.reachedMs
    this.#playing = this.#play(point)
  }

  /** Resolves when the play has ended: at `untilDay`, or when drained. */
  get ended(): Promise<void> {
    return this.#playing
  }

  async drain(): Promise<void> {
    this.#stop.abort()
    await this.#playing
  }

  progress(): PlayerProgress {
    return {
      transactions: this.#published.transactions,
      labels: this.#published.labels,
      transactionsBefore: this.#transactionsBefore,
      eventTimeMs: this.#eventTimeMs,
      pausedForBackpressure: this.#paused,
      finished: this.#finished,
    }
  }

  async #resume(signal: AbortSignal): Promise<ResumePoint> {
    const { bus } = this.#options
    for (let depth = 2 * maxBatchEvents; depth <= maxTailRecords; depth *= 2) {
      const transactions = await readTails(bus, 'transactions', this.#names.transactions, depth, signal)
      const labels = await readTails(bus, 'labels', this.#names.labels, depth, signal)
      const point = resumeFrom(this.#world, [...transactions, ...labels], maxBatchEvents)
      if (point !== undefined) return point
    }
    throw new MeshError(
      'FAILED_PRECONDITION',
      `the last ${maxTailRecords} records of "${this.#names.transactions}" are not this simulation's (seed ${this.#options.settings.seed}): play it into topics of its own`,
    )
  }

  async #play(resumed: ResumePoint): Promise<void> {
    const { signal } = this.#stop
    const untilMs = this.#world.startMs + (this.#options.untilDay ?? Infinity) * dayMs
    let point = resumed
    let allowance = 0
    let lastMs = performance.now()
    while (!signal.aborted && !this.#finished) {
      this.#paused = this.#options.paused?.() ?? false
      const nowMs = performance.now()
      // What was not played while held back is not made up for: the pace stays what was asked for.
      allowance = this.#paused ? 0 : Math.min(allowance + ((nowMs - lastMs) / 1000) * this.#options.transactionsPerS, maxBatchEvents)
      lastMs = nowMs
      const repair = point.missing.length > 0
      const batch = repair ? point.missing : this.#take(point.events, allowance, untilMs)
      allowance -= batch.filter((event) => event.topic === 'transactions').length
      const failure = batch.length > 0 ? await this.#publish(batch) : undefined
      if (failure !== undefined) point = (await this.#recover(failure)) ?? point
      else if (repair) point = { ...point, missing: [] }
      if (batch.length < maxBatchEvents) await sleep(tickMs, undefined, { signal }).catch(ignoreAbort)
    }
  }

  /** The events up to the next `allowance` transactions, a batch at most. */
  #take(events: Generator<PlayEvent>, allowance: number, untilMs: number): PlayEvent[] {
    const batch: PlayEvent[] = []
    let left = Math.floor(allowance)
    while (left > 0 && batch.length < maxBatchEvents) {
      const event = events.next().value as PlayEvent
      if (event.atMs >= untilMs) {
        this.#finished = true
        break
      }
      if (event.topic === 'transactions') left--
      batch.push(event)
    }
    return batch
  }

  async #publish(batch: readonly PlayEvent[]): Promise<MeshError | undefined> {
    const topics: readonly Topic[] = ['transactions', 'labels']
    const written = topics.map(async (topic) => {
      const records = topicRecords(batch, topic)
      if (records.count > 0) await this.#options.bus.publish(this.#names[topic], records)
      this.#published[topic] += records.count
    })
    const failure = (await Promise.allSettled(written)).find((outcome) => outcome.status === 'rejected')
    if (failure !== undefined) return MeshError.from(failure.reason, 'UNAVAILABLE')
    this.#eventTimeMs = Math.max(this.#eventTimeMs, batch.at(-1)!.atMs)
    return undefined
  }

  /** A publish that failed may have landed in part: what is missing is read from the topics. Undefined where drained meanwhile. */
  async #recover(failure: MeshError): Promise<ResumePoint | undefined> {
    const { signal } = this.#stop
    this.#finished = false
    let error = failure
    for (let delayMs = 100; !signal.aborted; delayMs = Math.min(delayMs * 2, longestRetryDelayMs)) {
      this.#options.onRetry?.(error, delayMs)
      await sleep(delayMs, undefined, { signal }).catch(ignoreAbort)
      try {
        return await this.#resume(signal)
      } catch (thrown) {
        error = MeshError.from(thrown, 'UNAVAILABLE')
      }
    }
    return undefined
  }
}

function ignoreAbort(thrown: unknown): void {
  if (!(thrown instanceof Error && thrown.name === 'AbortError')) throw thrown
}
