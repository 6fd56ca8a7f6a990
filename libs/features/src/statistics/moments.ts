/** Mean of one value or more, summed with Neumaier's compensation. */
export function meanOf(values: Float64Array): number {
  return compensatedSum(values, (value) => value) / values.length
}

/** Of the population, as scikit-learn's StandardScaler: the root of the mean squared distance from the mean. */
export function deviationOf(values: Float64Array): number {
  const mean = meanOf(values)
  return Math.sqrt(compensatedSum(values, (value) => (value - mean) ** 2) / values.length)
}

/** A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 54 (1974). */
function compensatedSum(values: Float64Array, term: (value: number) => number): number {
  let sum = 0
  let lost = 0
  for (let i = 0; i < values.length; i++) {
    const value = term(values[i]!)
    const next = sum + value
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum
    sum = next
  }
  return sum + lost
}

export function extremesOf(values: Float64Array): { readonly min: number; readonly max: number } {
  let min = Infinity
  let max = -Infinity
  for (let i = 0; i < values.length; i++) {
    if (values[i]! < min) min = values[i]!
    if (values[i]! > max) max = values[i]!
  }
  return { min, max }
}

/** Between neighbours by linear interpolation, as NumPy's default (`linear`). @param shares 0 to 1 */
export function quantilesOf(values: Float64Array, shares: readonly number[]): number[] {
  const sorted = Float64Array.from(values).sort()
  return shares.map((share) => {
    const place = share * (sorted.length - 1)
    const below = Math.floor(place)
    const value = sorted[below]!
    return place === below ? value : value + (sorted[below + 1]! - value) * (place - below)
  })
}

/** Pearson's correlation over rows that have both; 0 where one of them does not vary. */
export function correlationOf(first: Float64Array, second: Float64Array): number {
  const rows: number[] = []
  for (let row = 0; row < first.length; row++) if (!Number.isNaN(first[row]!) && !Number.isNaN(second[row]!)) rows.push(row)
  if (rows.length === 0) return 0
  const a = Float64Array.from(rows, (row) => first[row]!)
  const b = Float64Array.from(rows, (row) => second[row]!)
  const scale = deviationOf(a) * deviationOf(b)
  if (scale === 0) return 0
  const [meanA, meanB] = [meanOf(a), meanOf(b)]
  return meanOf(a.map((value, row) => (value - meanA) * (b[row]! - meanB))) / scale
}
