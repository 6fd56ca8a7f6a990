import { MeshError } from '@spillway/core'

const largestFp32 = 3.4028234663852886e38

interface NumberField {
  readonly field: string
  readonly values: Float64Array
}

/** Those of which some row has a number that FP32 cannot hold: none, as a rule. */
export function unfitFields(numbers: readonly NumberField[]): readonly NumberField[] {
  return numbers.filter(({ values }) => {
    for (let row = 0; row < values.length; row++) if (values[row]! > largestFp32 || values[row]! < -largestFp32) return true
    return false
  })
}

/** A number that would be infinite in the vector. NaN is a number that is absent. */
export function unfitNumber(numbers: readonly NumberField[], row: number): MeshError | undefined {
  for (const { field, values } of numbers) {
    if (Math.abs(values[row]!) > largestFp32)
      return new MeshError('OUT_OF_RANGE', `${field} is ${values[row]}: features hold at most ±${largestFp32} (FP32)`, { field })
  }
  return undefined
}

export function lateness(timeField: string, timeMs: number, newestMs: number, latenessMs: number, key: string): MeshError {
  return new MeshError(
    'OUT_OF_RANGE',
    `${timeField} is ${instant(timeMs)}, ${durationText(newestMs - timeMs)} before the newest event of ${key} (${instant(newestMs)}): this input accepts up to ${durationText(latenessMs)}`,
    { field: timeField },
  )
}

/** Counting in a history that may have dropped entries would be a guess. */
export function outOfRetention(
  timeField: string,
  timeMs: number,
  { fromMs, keptFromMs, key }: { readonly fromMs: number; readonly keptFromMs: number; readonly key: string },
): MeshError {
  return new MeshError(
    'OUT_OF_RANGE',
    `${timeField} is ${instant(timeMs)}: its windows look back to ${instant(fromMs)}, and the history of ${key} is kept from ${instant(keptFromMs)} on`,
    { field: timeField },
  )
}

function instant(timeMs: number): string {
  return Math.abs(timeMs) <= 8.64e15 ? new Date(timeMs).toISOString() : `${timeMs} ms`
}

const units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const

/** The two largest units that say something: `9d 2h`. */
function durationText(durationMs: number): string {
  const parts: string[] = []
  let rest = durationMs
  for (const [unit, unitMs] of units) {
    const count = Math.floor(rest / unitMs)
    rest -= count * unitMs
    if (count > 0) parts.push(`${count}${unit}`)
  }
  return parts.slice(0, 2).join(' ') || '0ms'
}
