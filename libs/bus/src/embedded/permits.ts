/** A number of permits, given out first come, first served. */
export class Permits {
  private free: number
  private readonly queue: ((taken: boolean) => void)[] = []
  private closed = false

  constructor(count: number) {
    this.free = count
  }

  /** True with a permit, which the caller gives back by `release`; false once closed. */
  take(): Promise<boolean> {
    if (this.closed) return Promise.resolve(false)
    if (this.free > 0) {
      this.free--
      return Promise.resolve(true)
    }
    return new Promise((resolve) => this.queue.push(resolve))
  }

  release(): void {
    const next = this.queue.shift()
    if (next === undefined) this.free++
    else next(true)
  }

  close(): void {
    this.closed = true
    for (const waiting of this.queue.splice(0)) waiting(false)
  }
}
