/** Widest span of whole numbers that is looked up in a plain table. */
const widestSpan = 65_536

const noPlace = -2

/** Numbers by their place in a list: a plain table where they are whole and close together, else a map. */
export class NumberVocabulary {
  readonly size: number
  private readonly lowest: number
  /** Place of `lowest` + index, or `noPlace`. Empty where `places` is used. */
  private readonly table: Int32Array
  private readonly places: ReadonlyMap<number, number>

  /** @param numbers each once */
  constructor(numbers: readonly number[]) {
    this.size = numbers.length
    this.places = new Map(numbers.map((number, index) => [number, index]))
    this.lowest = numbers.reduce((lowest, number) => Math.min(lowest, number), Infinity)
    const span = numbers.reduce((highest, number) => Math.max(highest, number), -Infinity) - this.lowest + 1
    const dense = numbers.length > 0 && span <= widestSpan && numbers.every(Number.isSafeInteger)
    this.table = new Int32Array(dense ? span : 0).fill(noPlace)
    if (dense) numbers.forEach((number, index) => (this.table[number - this.lowest] = index))
  }

  /** -1 for NaN, `unknown` for a number that is not in the list. */
  findAll(values: Float64Array, unknown: number, found: Int32Array): Int32Array {
    const { table, lowest, places } = this
    if (table.length === 0) {
      for (let row = 0; row < values.length; row++) {
        const value = values[row]!
        found[row] = Number.isNaN(value) ? -1 : (places.get(value) ?? unknown)
      }
      return found
    }
    const size = table.length
    for (let row = 0; row < found.length; row++) {
      const place = values[row]! - lowest
      let number = -1
      if (place >= 0 && place < size) {
        const index = place | 0
        number = index === place ? table[index]! : noPlace
        if (number === noPlace) number = unknown
      } else if (!Number.isNaN(place)) number = unknown
      found[row] = number
    }
    return found
  }
}
