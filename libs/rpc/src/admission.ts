/** The room that a call has on a server. */
export interface Place {
  /** Asked once, as soon as the size of the request is known, in bytes. @returns whether there is room for it */
  reserve(bytes: number): boolean
  /** Gives back all of it. Idempotent. */
  release(): void
}

/** Bounds what a server takes on. */
export interface Admission {
  /** Takes a call in before anything of its request is read. @returns undefined where there is no room for it */
  admit(): Place | undefined
}
