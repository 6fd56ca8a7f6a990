import {
  type Batch,
  elementCount,
  fitsType,
  MeshError,
  type RowFailure,
  type Signature,
  type Stage,
  type StageContext,
  type StageResult,
  takeRows,
  typeText,
} from '@spillway/core'
import type { CustomStageDefinition } from './custom-stages.ts'
import { columnTypeOf } from './stage-module.ts'

/** The port by which rows leave a stage of one's own. */
export const rowsPort = 'rows'

/** A stage of one's own in the mesh: what its module gives is held against what a stage must give. */
export class CustomStage implements Stage {
  readonly name: string
  readonly accepts: Signature = new Map()
  readonly ports: Readonly<Record<string, Signature>>
  private readonly definition: CustomStageDefinition
  private readonly adds: Signature

  constructor(name: string, definition: CustomStageDefinition) {
    this.name = name
    this.definition = definition
    this.adds = new Map([...definition.adds].map(([column, type]) => [column, columnTypeOf(type)]))
    this.ports = { [rowsPort]: this.adds }
  }

  async process(batch: Batch, { signal, mode }: StageContext): Promise<StageResult> {
    const { module, settings } = this.definition
    const { batch: rows, failures: failed } = this.parts(await module.process(batch, { settings, signal, mode }))
    const failures = this.failedRows(failed, batch.rowCount)
    const kept = failures.length > 0 && rows.rowCount === batch.rowCount ? without(rows, failures) : rows
    if (kept.rowCount + failures.length !== batch.rowCount)
      throw this.fault(
        `was given ${batch.rowCount} rows, and gave ${rows.rowCount} back with ${failures.length} failures: each row ends as one of the two`,
      )
    if (kept.rowCount === 0) return { outputs: new Map(), failures }
    this.checkColumns(kept)
    return { outputs: new Map([[rowsPort, kept]]), failures }
  }

  private fault(message: string): MeshError {
    return new MeshError('INTERNAL', `stage ${this.definition.name} ${message}`)
  }

  /** A module need not have been type-checked. */
  private parts(given: unknown): { batch: Batch; failures: readonly { row: number; error: unknown }[] } {
    const isBatch = (value: unknown): value is Batch =>
      typeof value === 'object' && value !== null && 'rowCount' in value && 'meta' in value && 'columns' in value
    if (isBatch(given)) return { batch: given, failures: [] }
    const { batch, failures } = (given ?? {}) as { batch?: unknown; failures?: unknown }
    if (isBatch(batch) && Array.isArray(failures)) return { batch, failures: failures as { row: number; error: unknown }[] }
    throw this.fault('gave neither a batch nor { batch, failures }')
  }

  private checkColumns({ rowCount, meta, columns }: Batch): void {
    if (meta.ids.length !== rowCount) throw this.fault(`gave a batch of ${rowCount} rows with metadata of ${meta.ids.length}`)
    for (const [name, column] of columns) {
      const elements = column.datatype === 'BYTES' ? column.data.offsets.length - 1 : column.data.length
      if (column.shape[0] !== rowCount || elements !== elementCount(column.shape))
        throw this.fault(`gave column "${name}" with ${elements} values in shape [${column.shape.join(', ')}] for ${rowCount} rows`)
    }
    for (const [name, expected] of this.adds) {
      const column = columns.get(name)
      const found = column && { datatype: column.datatype, rowShape: column.shape.slice(1) }
      if (found === undefined || !fitsType(found, expected))
        throw this.fault(`adds column "${name}" as ${typeText(expected)}, and gave ${found === undefined ? 'none' : typeText(found)}`)
    }
  }

  private failedRows(failures: readonly { row: number; error: unknown }[], rowCount: number): readonly RowFailure[] {
    const seen = new Set<number>()
    return failures.map(({ row, error }) => {
      if (!Number.isInteger(row) || row < 0 || row >= rowCount || seen.has(row))
        throw this.fault(`failed row ${row}: expected each row once, from 0 to ${rowCount - 1}`)
      seen.add(row)
      return { row, error: MeshError.from(error, 'INVALID_ARGUMENT') }
    })
  }
}

function without(batch: Batch, failures: readonly RowFailure[]): Batch {
  const failed = new Set(failures.map(({ row }) => row))
  return takeRows(
    batch,
    Array.from({ length: batch.rowCount }, (_, row) => row).filter((row) => !failed.has(row)),
  )
}
