/** FP32 columns that grow: a table of vectors held by column. */
export class VectorColumns {
  readonly names: readonly string[]
  rowCount: number = 0
  private columns: Float32Array[]

  constructor(names: readonly string[]) {
    this.names = names
    this.columns = names.map(() => new Float32Array(1024))
  }

  /** Rows of each column, in the order of the names. */
  append(columns: readonly Float64Array[], rowCount: number): void {
    this.columns = this.columns.map((own, index) => {
      const grown = grow(own, this.rowCount + rowCount)
      grown.set(columns[index]!, this.rowCount)
      return grown
    })
    this.rowCount += rowCount
  }

  value(column: number, row: number): number {
    return this.columns[column]![row]!
  }

  column(index: number): Float32Array {
    return this.columns[index]!.subarray(0, this.rowCount)
  }
}

/** The same values with room for `count` of them. */
export function grow<T extends Float32Array | Float64Array | Int32Array>(values: T, count: number): T {
  if (count <= values.length) return values
  const grown = new (values.constructor as new (length: number) => T)(Math.max(count, values.length * 2))
  grown.set(values)
  return grown
}
