import { setImmediate as turn } from 'node:timers/promises'

interface Asked<T> {
  isSent: boolean
  readonly answer: Promise<T>
}

/** A request that several ask for is made once for all who ask before it is sent: after the turn of the event loop, or when the one before has been answered. What one gets is never older than its asking. */
export class SharedRequests<Key, T> {
  readonly #last = new Map<Key, Asked<T>>()

  ask(key: Key, send: () => Promise<T>): Promise<T> {
    const last = this.#last.get(key)
    if (last !== undefined && !last.isSent) return last.answer
    const answer = this.#send(last, async () => {
      asked.isSent = true
      try {
        return await send()
      } finally {
        if (this.#last.get(key) === asked) this.#last.delete(key)
      }
    })
    const asked: Asked<T> = { isSent: false, answer }
    this.#last.set(key, asked)
    return answer
  }

  async #send(last: Asked<T> | undefined, send: () => Promise<T>): Promise<T> {
    if (last === undefined) await turn()
    // How it ended is for those who asked for it.
    else await Promise.allSettled([last.answer])
    return send()
  }
}
