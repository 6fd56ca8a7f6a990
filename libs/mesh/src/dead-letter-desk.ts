import type { LetterOutcome } from './dead-letter-headers.ts'

/** A dead letter, as a list shows it. */
export interface DeadLetter {
  /** `<partition>-<offset>` on the dead-letter topic: the letter's name. */
  readonly position: string
  readonly outcome: 'open' | LetterOutcome
  /** When it was written, ms since the epoch. */
  readonly timeMs: number
  readonly segment: string
  readonly stage: string
  readonly code: string
  readonly message: string
  readonly field?: string
  readonly id: string
  readonly key: string
  /** Where its event lies: `<topic>/<partition>/<offset>`. */
  readonly source: string
  /** How often the event was given back before it became this letter. */
  readonly redriven: number
  /** What had to be cut so that the letter fits a record. */
  readonly incomplete?: string
}

/** All of it. */
export interface DeadLetterDetail extends DeadLetter {
  /** The event as it came in, read as UTF-8. */
  readonly event: string
  /** Those that the event came with. */
  readonly headers: Readonly<Record<string, string>>
  /** Columns of the row that the failing stage was given, by name, as the letter has them; numbers of 64 bits as text. */
  readonly row?: Readonly<Record<string, unknown>>
}

/** Letters that have all of these; text is compared as it is, `code` by gRPC's name. */
export interface DeadLetterFilter {
  readonly segment?: string
  readonly stage?: string
  readonly code?: string
  readonly key?: string
  readonly id?: string
  /** Written at or after, and before, in ms since the epoch. */
  readonly fromMs?: number
  readonly toMs?: number
  /** `open` where absent. */
  readonly outcome?: 'open' | LetterOutcome | 'any'
}

export interface DeadLetterPage {
  /** By partition, and there in the order in which they were written. */
  readonly letters: readonly DeadLetter[]
  /** Where the next page begins: there may be more, though this one be empty; absent at the end. */
  readonly next?: string
}

/** `redrive` gives letters back; `drop` says that they are done with. */
export interface Settlement {
  readonly outcome: LetterOutcome
  /** Whether a letter goes to the segment that failed it, or its event to the pipeline's input; for `redriven`. */
  readonly at?: 'segment' | 'input'
  /** Only say what would be done. */
  readonly dryRun?: boolean
}

export interface Settled {
  /** How many letters this call settled, or would settle. */
  readonly settled: number
  /** Letters that it left as they are, with why. */
  readonly left: readonly { readonly position: string; readonly reason: string }[]
}

/** Reads and settles a pipeline's dead letters, at the bus or through a gateway. */
export interface DeadLetterDesk {
  /** @param after the `next` of the page before @throws MeshError INVALID_ARGUMENT for a position that is none */
  list(filter: DeadLetterFilter, page: { readonly after?: string; readonly limit: number }, signal: AbortSignal): Promise<DeadLetterPage>
  /** @throws MeshError NOT_FOUND where there is no such letter, INVALID_ARGUMENT */
  show(position: string, signal: AbortSignal): Promise<DeadLetterDetail>
  /**
   * Durable when it resolves. Where it rejects, each letter is settled or not: ask again with the same letters, and none is settled twice.
   * @throws MeshError INVALID_ARGUMENT for a position that is none, or more than `maxSettledAtOnce`; UNAVAILABLE where the bus is away
   */
  settle(positions: readonly string[], settlement: Settlement, signal: AbortSignal): Promise<Settled>
}

/** Letters of one `settle` call, at most. */
export const maxSettledAtOnce = 500
