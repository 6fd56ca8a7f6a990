/** Scores are rounded to 6 decimals before any decision: runtimes differ in the last bits between batch sizes. */
export function roundScore(score: number): number {
  return Math.round(score * 1e6) / 1e6
}
