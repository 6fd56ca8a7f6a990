import type { Clock } from './clock.ts'
import { MeshError } from './error.ts'

/** The earliest deadline of a batch's rows, ms since the epoch; Infinity where none is set. */
export function earliestDeadlineMs(deadlinesMs: Float64Array): number {
  let earliest = Infinity
  for (const deadline of deadlinesMs) if (deadline < earliest) earliest = deadline
  return earliest
}

/** @throws MeshError DEADLINE_EXCEEDED where the deadline has passed. */
export function assertTimeLeft(deadlineMs: number, clock: Clock, what: string): void {
  const leftMs = deadlineMs - clock.nowMs()
  if (leftMs <= 0) throw new MeshError('DEADLINE_EXCEEDED', `${what} was not started: its deadline passed ${Math.round(-leftMs)} ms ago`)
}

/** A signal that follows `parent` and fires at the deadline too; setTimeout's 32-bit limit caps what is armed. */
export function deadlineSignal(parent: AbortSignal, deadlineMs: number, clock: Clock): AbortSignal {
  const leftMs = deadlineMs - clock.nowMs()
  if (leftMs > 0x7fffffff) return parent
  return AbortSignal.any([parent, AbortSignal.timeout(Math.max(0, Math.ceil(leftMs)))])
}
