/** The room that a call has on a server. */
export interface Place {
  /**
   * Asked once, as soon as the size of the request is known.
   * @param bytes what it can take up
   * @param sentBytes what is sent of it: less where it is compressed
   * @returns whether there is room for it
   */
  reserve(bytes: number, sentBytes?: number): boolean
  /**
   * Told of a unary call with a deadline what was left of its time, in ms, when its answer was on its way: 0 where there was none in time.
   * @param givenMs the time that it had when it came
   */
  answered?(leftMs: number, givenMs: number): void
  /** Gives back all of it. Idempotent. */
  release(): void
}

/** Bounds what a server takes on. */
export interface Admission {
  /**
   * Takes a call in before anything of its request is read.
   * @param patient whether its caller waits as long as it takes
   * @returns undefined where there is no room for it
   */
  admit(patient?: boolean): Place | undefined
}
