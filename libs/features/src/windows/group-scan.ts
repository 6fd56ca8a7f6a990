/** One manner of computing windows. */
export interface GroupScan {
  compute(row: number, columns: readonly Float64Array[]): void
}
