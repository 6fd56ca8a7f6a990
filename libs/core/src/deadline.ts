/** The earliest deadline of a batch's rows, ms since the epoch; Infinity where none is set. */
export function earliestDeadlineMs(deadlinesMs: Float64Array): number {
  let earliest = Infinity
  for (const deadline of deadlinesMs) if (deadline < earliest) earliest = deadline
  return earliest
}
