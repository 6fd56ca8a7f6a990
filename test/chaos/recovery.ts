import type { Traffic } from './traffic.ts'

/** When outputs resumed after a moment; ms as `performance.now` has it. */
export interface Recovery {
  readonly sinceMs: number
  /** The first prediction of an event that was published after the moment. */
  firstMs: number | undefined
  /** When there had been one of every partition. */
  allMs: number | undefined
}

interface Watched extends Recovery {
  readonly left: Set<number>
  readonly done: PromiseWithResolvers<void>
}

/** What was seen on the predictions' topic, and when. */
export class Sightings {
  /** When each transaction's first prediction was seen. */
  readonly seenMs: Map<number, number> = new Map()
  readonly #traffic: Traffic
  readonly #partitions: number
  readonly #open = new Set<Watched>()

  constructor(traffic: Traffic, partitions: number) {
    this.#traffic = traffic
    this.#partitions = partitions
  }

  saw(transactionId: number): void {
    if (this.seenMs.has(transactionId)) return
    const nowMs = performance.now()
    this.seenMs.set(transactionId, nowMs)
    const publishedMs = this.#traffic.publishedMs.get(transactionId)
    // Not acknowledged yet: the next one of its partition will do.
    const partition = this.#traffic.partitionOf.get(transactionId)
    if (publishedMs === undefined || partition === undefined) return
    for (const watched of this.#open) {
      if (publishedMs <= watched.sinceMs) continue
      watched.firstMs ??= nowMs
      watched.left.delete(partition)
      if (watched.left.size > 0) continue
      watched.allMs = nowMs
      this.#open.delete(watched)
      watched.done.resolve()
    }
  }

  /** Watches for outputs of events that are published from now on. */
  fromNow(): { readonly recovery: Recovery; readonly done: Promise<void> } {
    const done = Promise.withResolvers<void>()
    const left = new Set(Array.from({ length: this.#partitions }, (_, partition) => partition))
    const watched: Watched = { sinceMs: performance.now(), firstMs: undefined, allMs: undefined, left, done }
    this.#open.add(watched)
    return { recovery: watched, done: done.promise }
  }
}
