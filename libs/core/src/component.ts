/** Something that lives long: started once, drained once or more. */
export interface Component {
  /** Resolves when ready for work; rejects where it cannot be. */
  start(signal: AbortSignal): Promise<void>
  /** Takes no more, finishes what is in flight, closes. Idempotent. */
  drain(): Promise<void>
}
