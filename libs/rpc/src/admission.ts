import { MeshError } from '@spillway/core'

/** What was full. */
export type NoRoom = 'calls' | 'bytes'

/** What a call is refused with: too many are in flight, or too much of their requests. */
export function noRoom(full: NoRoom): MeshError {
  const message =
    full === 'calls'
      ? 'there is no room for another call: try again later'
      : 'there is no room for a request of this size: try again later, or send less'
  return new MeshError('RESOURCE_EXHAUSTED', message)
}

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
