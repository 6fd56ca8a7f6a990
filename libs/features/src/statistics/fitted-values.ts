import type { ColumnData } from '../columns/column-data.ts'
import type { FittedValues } from '../columns/compile-columns.ts'
import type { FitRequest } from '../columns/step.ts'
import { wrong } from '../refusal.ts'
import type { ColumnStatistics, Statistics } from './statistics.ts'

interface Place {
  readonly column: string
  readonly step: number
  readonly at: string
}

/** From an artefact. @param definitionOf hash of what a column's fitted steps depend on now */
export function storedValues(statistics: Statistics | undefined, definitionOf: (column: string) => string): FittedValues {
  return {
    value<T>({ column, step, at }: Place, request: FitRequest<T>): T {
      if (statistics === undefined)
        throw wrong(at, 'it needs statistics: run spillway features fit, and name the file as features.statistics')
      if (statistics.rows === 0)
        throw wrong('statistics', 'they were fitted to no rows: run spillway features fit on events that there are')
      const found = Object.hasOwn(statistics.columns, column) ? statistics.columns[column] : undefined
      if (found === undefined)
        throw wrong(
          at,
          `the statistics have nothing on column "${column}", only on ${Object.keys(statistics.columns).join(', ') || 'none'}: run spillway features fit`,
        )
      if (found.definition !== definitionOf(column))
        throw wrong(at, `the statistics were fitted to another definition of column "${column}": run spillway features fit again`)
      const parsed = request.schema.safeParse(found.steps[String(step)])
      if (parsed.success) return parsed.data
      const [issue] = parsed.error.issues
      const path = ['columns', column, 'steps', step, ...issue!.path].join('.')
      throw wrong(at, `the statistics do not fit it: ${path}: ${issue!.message}: run spillway features fit again`)
    },
  }
}

/** Stand-ins: enough to compute what columns are made from. */
export const unfittedValues: FittedValues = { value: (_place, request) => request.unfitted }

/** Fits each step when it is compiled, to what the steps before it make of the rows. */
export class FittingValues implements FittedValues {
  private readonly fitted = new Map<string, Map<number, unknown>>()

  value<T>({ column, step }: Place, request: FitRequest<T>, data: () => ColumnData): T {
    const value = request.fit(data())
    const ofColumn = this.fitted.get(column) ?? new Map<number, unknown>()
    this.fitted.set(column, ofColumn.set(step, value))
    return value
  }

  statistics(definitionOf: (column: string) => string): Record<string, ColumnStatistics> {
    return Object.fromEntries(
      [...this.fitted].map(([column, steps]) => [column, { definition: definitionOf(column), steps: Object.fromEntries(steps) }]),
    )
  }
}
