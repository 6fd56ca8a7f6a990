/** What a peer may send of DATA ahead of our reading, on a stream or on a connection (RFC 9113, 5.2). */
export class ReceiveWindow {
  readonly #size: number
  /** Came, and has not been given back. */
  #owed = 0
  /** Of that, what has been taken. */
  #taken = 0

  constructor(size: number) {
    this.#size = size
  }

  /** @returns whether the peer kept to it */
  received(bytes: number): boolean {
    this.#owed += bytes
    return this.#owed <= this.#size
  }

  /** @returns what to give back now: 0 while that is less than half of the window */
  taken(bytes: number): number {
    this.#taken += bytes
    const given = this.#taken
    if (given < this.#size / 2) return 0
    this.#owed -= given
    this.#taken = 0
    return given
  }
}
