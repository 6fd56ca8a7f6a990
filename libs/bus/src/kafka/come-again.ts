import { pause } from '../backoff.ts'
import { asksToComeAgain } from './errors.ts'

/** Comes again after ever longer pauses while the coordinator asks for it, for as long as it may take to end a transaction. The signal ends the waiting. */
export async function comeAgain<T>(request: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const endMs = Date.now() + 30_000
  for (let delayMs = 1; ; delayMs = Math.min(delayMs * 1.5, 50)) {
    try {
      return await request()
    } catch (error) {
      if (!asksToComeAgain(error) || signal.aborted || Date.now() > endMs) throw error
      await pause(delayMs, signal)
    }
  }
}
