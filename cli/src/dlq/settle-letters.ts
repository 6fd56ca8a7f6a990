import { setTimeout as wait } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import { type DeadLetter, type DeadLetterDesk, type DeadLetterFilter, maxSettledAtOnce, type Settlement } from '@spillway/mesh'

const pageSize = 1000
const attempts = 5

/** Letters one after the other, as a filter has them, up to a limit. */
export async function* lettersBy(
  desk: DeadLetterDesk,
  filter: DeadLetterFilter,
  limit: number,
  signal: AbortSignal,
): AsyncGenerator<DeadLetter, { readonly more: boolean }> {
  let after: string | undefined
  let left = limit
  do {
    if (left === 0) return { more: true }
    const page = await desk.list(filter, { limit: Math.min(left, pageSize), ...(after !== undefined && { after }) }, signal)
    yield* page.letters
    left -= page.letters.length
    after = page.next
  } while (after !== undefined)
  return { more: false }
}

export interface SettleOptions {
  readonly desk: DeadLetterDesk
  readonly positions: readonly string[]
  readonly settlement: Settlement
  /** Letters a second, at most; Infinity for as fast as it goes. */
  readonly ratePerS: number
  readonly onProgress: (done: number) => void
}

export interface SettledLetters {
  readonly settled: number
  readonly left: readonly { readonly position: string; readonly reason: string }[]
}

/**
 * Settles letters, some at a time. What was settled stays so wherever it ends: the same command goes on with those that are still open.
 * @throws the signal's reason, MeshError
 */
export async function settleLetters(options: SettleOptions, signal: AbortSignal): Promise<SettledLetters> {
  const { desk, positions, settlement, ratePerS, onProgress } = options
  // A tenth of a second's worth at a time, so that a rate is one for the mesh too.
  const atOnce = Math.max(1, Math.min(maxSettledAtOnce, Math.ceil(ratePerS / 10)))
  const left: { readonly position: string; readonly reason: string }[] = []
  let settled = 0
  const startedMs = performance.now()
  for (let start = 0; start < positions.length; start += atOnce) {
    const dueMs = startedMs + (start / ratePerS) * 1000 - performance.now()
    if (dueMs > 0) await wait(dueMs, undefined, { signal })
    signal.throwIfAborted()
    const done = await patiently(() => desk.settle(positions.slice(start, start + atOnce), settlement, signal), signal)
    settled += done.settled
    left.push(...done.left)
    onProgress(Math.min(start + atOnce, positions.length))
  }
  return { settled, left }
}

/** A call that may have been done is safe to repeat: no letter is settled twice. */
async function patiently<T>(call: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call()
    } catch (thrown) {
      if (attempt === attempts || signal.aborted || !MeshError.from(thrown).retryable) throw thrown
      await wait(200 * 2 ** attempt, undefined, { signal })
    }
  }
}
