import { setTimeout as wait } from 'node:timers/promises'

/** Calls `send` at a steady rate, in small batches on a fixed timetable: late batches do not slow the clock. @returns when all have been sent */
export async function atRate(perSecond: number, total: number, send: (from: number, to: number) => void): Promise<void> {
  const startMs = performance.now()
  let sent = 0
  while (sent < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * perSecond) + 1)
    if (due > sent) {
      send(sent, due)
      sent = due
    }
    await wait(1)
  }
}

/** Keeps `callers` calls in flight for `durationMs`. @returns calls a second */
export async function closedLoop(callers: number, durationMs: number, call: () => Promise<unknown>): Promise<number> {
  const endMs = performance.now() + durationMs
  let calls = 0
  const startMs = performance.now()
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < endMs) {
        await call()
        calls++
      }
    }),
  )
  return calls / ((performance.now() - startMs) / 1000)
}
