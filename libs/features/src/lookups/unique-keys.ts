/** The keys of a slice, once each: what a server is asked for. */
export class UniqueKeys {
  /** One a row: index of its key; -1 where it has none. */
  readonly indices: Int32Array
  /** One a unique key: the first row that has it. */
  readonly firstRows: number[] = []

  /** @param timesMs where given, a key at another time is another one */
  constructor(keys: readonly string[], timesMs?: Float64Array) {
    this.indices = new Int32Array(keys.length).fill(-1)
    const known = new Map<string, number>()
    for (let row = 0; row < keys.length; row++) {
      const key = keys[row]!
      if (key === '') continue
      const identity = timesMs === undefined ? key : `${timesMs[row]} ${key}`
      let index = known.get(identity)
      if (index === undefined) {
        index = this.firstRows.push(row) - 1
        known.set(identity, index)
      }
      this.indices[row] = index
    }
  }

  get count(): number {
    return this.firstRows.length
  }
}
