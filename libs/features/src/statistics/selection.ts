import { type ColumnData, type ColumnKind, numbersIn } from '../columns/column-data.ts'
import type { PlannedColumn } from '../plan.ts'
import { wrong } from '../refusal.ts'
import { definitionHash, hashOf, type Section } from './definition-hash.ts'
import { correlationOf, deviationOf } from './moments.ts'
import type { Statistics } from './statistics.ts'

/** Which of the columns (by index) that the section names for the vector are in it. */
export type VectorSelection = (vector: readonly number[], columns: readonly PlannedColumn[]) => readonly number[]

/** Of what is selected, from what, and all that it is made from. */
export function selectionHash(names: readonly string[], section: Section): string {
  const { select } = section.features
  const label = select?.label === undefined ? [] : [definitionHash(select.label, section)]
  return hashOf([select, label, names.map((name) => [name, definitionHash(name, section)])])
}

/** @throws MeshError INVALID_ARGUMENT where the section selects, and the statistics do not say what, or of another vector */
export function storedSelection(statistics: Statistics | undefined, section: Section): VectorSelection {
  if (section.features.select === undefined) return (vector) => vector
  return (vector, columns) => {
    const selection = statistics?.selection
    if (selection === undefined)
      throw wrong('select', 'what to select is fitted: run spillway features fit, and name the file as features.statistics')
    const names = vector.map((index) => columns[index]!.name)
    if (selection.definition !== selectionHash(names, section))
      throw wrong('select', 'the statistics selected from other columns, or otherwise: run spillway features fit again')
    const kept = new Set(selection.kept.map(({ name }) => name))
    return vector.filter((index) => kept.has(columns[index]!.name))
  }
}

/** A column's score is the best of its elements': the variance, or the absolute correlation with the label, of those values that are there. */
export function scoreOf(data: ColumnData, kind: ColumnKind, label: Float64Array | undefined): number {
  let best = 0
  for (const values of elementsOf(data, kind)) {
    const present = values.filter((value) => !Number.isNaN(value))
    if (present.length === 0) continue
    best = Math.max(best, label === undefined ? deviationOf(present) ** 2 : Math.abs(correlationOf(values, label)))
  }
  return best
}

function* elementsOf(data: ColumnData, kind: ColumnKind): Generator<Float64Array> {
  if (kind.kind === 'flags') {
    for (let flag = 0; flag < kind.elements.length; flag++)
      yield Float64Array.from(data.values as Int32Array, (index) => (index === flag ? 1 : 0))
    return
  }
  const numbers = numbersIn(data)
  const width = data.kind === 'vector' ? data.width : 1
  for (let element = 0; element < width; element++)
    yield Float64Array.from({ length: numbers.length / width }, (_, row) => numbers[row * width + element]!)
}
