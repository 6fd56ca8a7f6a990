/** Waits; sooner where a signal fires. */
export async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, delayMs)
    signal.addEventListener('abort', finish, { once: true })
  })
}

/** Doubles from 50 ms to `limitMs`; the first attempt is 1. */
export function backoffMs(attempt: number, limitMs: number): number {
  return Math.min(limitMs, 50 * 2 ** Math.min(attempt - 1, 16))
}
