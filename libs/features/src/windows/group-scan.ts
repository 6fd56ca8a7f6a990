/** One manner of computing windows. */
export interface GroupScan {
  /** Writes the row's windows into `columns`, which are those of the input's plan: `width` numbers a row. */
  compute(row: number, columns: readonly Float64Array[]): void
}
