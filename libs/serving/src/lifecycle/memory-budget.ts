/**
 * What a model of so many bytes on disk needs at least: its weights, and once more those that are laid out anew for the processor. (An MLP of 34 MB: the resident
 * set grows by 93, with the worker thread and the buffers of its load.)
 */
const leastFactor = 2
/** Files smaller than this say nothing: what their load adds is not theirs. */
const tellingBytes = 1024 * 1024
const newestWeight = 0.3

/** What the process keeps of a model's files in memory, learnt from the loads so far. */
export class MemoryEstimate {
  #factor = leastFactor

  /** @param sessions copies of the model: one in each worker thread */
  before(fileBytes: number, sessions: number): number {
    return Math.ceil(fileBytes * this.#factor * Math.max(1, sessions))
  }

  /**
   * What a loaded version is taken to hold: what the resident set grew by while it was loaded, and at least its files twice for each session. The growth is
   * the process's: traffic beside the load is in it, and memory that an earlier model left to the allocator hides it.
   */
  after(fileBytes: number, sessions: number, grownBytes: number): number {
    const copies = fileBytes * Math.max(1, sessions)
    const measured = Math.max(grownBytes, copies * leastFactor)
    if (fileBytes >= tellingBytes) this.#factor += (measured / copies - this.#factor) * newestWeight
    return measured
  }
}

/** A loaded model that could give way. */
export interface Resident {
  readonly model: string
  readonly bytes: number
  /** ms since the epoch. */
  readonly lastUsedMs: number
  /** Somebody has a handle on one of its versions, or it is being changed. */
  readonly busy: boolean
}

/**
 * The models that give way so that `neededBytes` more fit into the budget: those longest unused first, never one in use. Undefined where they would not be
 * enough, and none has to go.
 */
export function toEvict(
  residents: readonly Resident[],
  usedBytes: number,
  neededBytes: number,
  budgetBytes: number,
): readonly string[] | undefined {
  const chosen: string[] = []
  let freeBytes = budgetBytes - usedBytes
  for (const { model, bytes, busy } of residents.toSorted((a, b) => a.lastUsedMs - b.lastUsedMs)) {
    if (freeBytes >= neededBytes) break
    if (busy) continue
    chosen.push(model)
    freeBytes += bytes
  }
  return freeBytes >= neededBytes ? chosen : undefined
}
