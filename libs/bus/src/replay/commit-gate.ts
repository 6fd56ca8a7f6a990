/** Lets writes through side by side, and holds them back while a checkpoint is taken: it then holds exactly the writes that are done. */
export class CommitGate {
  private writing = 0
  private idle: (() => void) | undefined
  private closed: PromiseWithResolvers<void> | undefined

  async write<T>(work: () => Promise<T>): Promise<T> {
    while (this.closed !== undefined) await this.closed.promise
    this.writing++
    try {
      return await work()
    } finally {
      this.writing--
      if (this.writing === 0) this.idle?.()
    }
  }

  /** Alone: one at a time, when the writes under way are done. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    while (this.closed !== undefined) await this.closed.promise
    this.closed = Promise.withResolvers<void>()
    try {
      if (this.writing > 0) await new Promise<void>((resolve) => (this.idle = resolve))
      this.idle = undefined
      return await work()
    } finally {
      const { resolve } = this.closed
      this.closed = undefined
      resolve()
    }
  }
}
