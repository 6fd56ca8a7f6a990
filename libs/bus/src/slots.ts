/** A fixed number of places, given in the order asked. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Resolves with a place taken; `false` where the signal fired first. */
  async take(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false
    if (this.#free > 0) {
      this.#free--
      return true
    }
    return new Promise<boolean>((resolve) => {
      const give = (): void => {
        signal.removeEventListener('abort', forget)
        resolve(true)
      }
      const forget = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(give), 1)
        resolve(false)
      }
      this.#waiting.push(give)
      signal.addEventListener('abort', forget, { once: true })
    })
  }

  release(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free++
    else next()
  }
}
