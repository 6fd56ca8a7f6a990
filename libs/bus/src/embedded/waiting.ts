import type { Log } from './log-store.ts'

/** Resolves when one of the logs grows or the signal fires. The caller has just seen that there is nothing to read. */
export function appended(logs: readonly Log[], signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const wake = (): void => {
      for (const log of logs) log.waiting.delete(wake)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    for (const log of logs) log.waiting.add(wake)
    signal.addEventListener('abort', wake)
  })
}

/** Lets the event loop serve sockets and timers before the next turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
