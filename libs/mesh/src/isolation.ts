import { randomUUID } from 'node:crypto'
import { type Batch, mergeResults, MeshError, type RunResult, takeRows } from '@spillway/core'
import type { Attempt } from '@spillway/bus'
import type { Telemetry } from '@spillway/telemetry'
import { isIn, noteOf, partsOf, type RowRange, type Suspicion, suspicionOf } from './suspicion.ts'

export interface Isolated {
  readonly batch: Batch
  /** The place of the batch's first row among all rows of the slice. */
  readonly firstRow: number
  readonly attempt: Attempt
  /** The stage that culprits are dead letters of. */
  readonly stage: string
  readonly signal: AbortSignal
  readonly run: (batch: Batch) => Promise<RunResult>
}

/**
 * Finds rows that end the process that handles them: a native crash in a runtime, memory that runs out. The first slice after a partition was taken
 * over is noted with its position before it is tried. A process that finds another's note knows what that one died over: it tries it in
 * parts, each noted first, and so on down to the row, which becomes a dead letter. Other slices are not noted and cost nothing.
 *
 * One for all segments of a process: where somebody died, one part is tried at a time, so that a death is that part's.
 */
export class Isolation {
  private readonly self = randomUUID()
  private readonly logger: Telemetry['logger']
  private readonly patienceMs: number
  private turn: Promise<void> = Promise.resolve()

  /** @param options `patienceMs`: past this, what is tried waits for something and kills nobody: a death is no longer its own; 5 s where absent. A crash that takes longer holds the event loop, and with it this clock. */
  constructor(options: { readonly logger: Telemetry['logger']; readonly patienceMs?: number }) {
    this.logger = options.logger
    this.patienceMs = options.patienceMs ?? 5000
  }

  /** @throws what `run` throws; whatever is not known to have died is then tried again */
  async run(given: Isolated): Promise<RunResult> {
    const { batch, firstRow, attempt, run } = given
    if (batch.rowCount === 0 || (!attempt.takenOver && attempt.note === undefined)) return run(batch)
    const suspicion = suspicionOf(attempt.note, this.self)
    const results: RunResult[] = [this.convict(given, suspicion)]
    for (const part of partsOf(suspicion, [firstRow, firstRow + batch.rowCount])) {
      const [from, to] = part
      const rows = range(from, to)
        .filter((row) => !isIn(suspicion.culprits, row))
        .map((row) => row - firstRow)
      if (rows.length === 0) continue
      const taken = rows.length === batch.rowCount ? batch : takeRows(batch, rows)
      results.push(await this.tried(given, suspicion, part, () => run(taken)))
    }
    return mergeResults(results)
  }

  private convict({ batch, firstRow, stage }: Isolated, { culprits }: Suspicion): RunResult {
    const rows = range(0, batch.rowCount).filter((row) => isIn(culprits, firstRow + row))
    if (rows.length === 0) return { outputs: new Map(), failures: [] }
    const error = new MeshError('INTERNAL', 'the process ended each time that it handled this row alone: it is not tried again')
    const failed = takeRows(batch, rows)
    this.logger.error(
      { stage, ids: failed.meta.ids.slice(0, 10), rows: rows.length },
      'rows that end the process that handles them become dead letters',
    )
    return { outputs: new Map(), failures: [{ stage, batch: failed, errors: rows.map(() => error) }] }
  }

  private async tried(
    { attempt, stage, signal }: Isolated,
    suspicion: Suspicion,
    part: RowRange,
    run: () => Promise<RunResult>,
  ): Promise<RunResult> {
    const isSuspected = suspicion.deaths > 0 || suspicion.culprits.length > 0
    const release = isSuspected ? await this.takeTurn() : () => {}
    let isOver: Promise<void> | undefined
    const letGo = (): Promise<void> => (isOver ??= attempt.keepNote(noteOf(this.self, suspicion)).finally(release))
    try {
      signal.throwIfAborted()
      if (isSuspected)
        this.logger.warn({ stage, from: part[0], to: part[1], deaths: suspicion.deaths }, 'a process ended over these rows: tried apart')
      await attempt.keepNote(noteOf(this.self, suspicion, part))
    } catch (error) {
      release()
      throw error
    }
    // A note that cannot be kept makes the commit fail: that is where it is seen.
    const timer = setTimeout(() => void letGo().catch(() => {}), this.patienceMs)
    try {
      const result = await run()
      // Else the commit drops the note.
      if (isSuspected || isOver !== undefined) await letGo()
      return result
    } catch (error) {
      // Whether or not that can be said now: what failed is what counts.
      await letGo().catch(() => {})
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  private async takeTurn(): Promise<() => void> {
    const before = this.turn
    const { promise, resolve } = Promise.withResolvers<void>()
    this.turn = before.then(() => promise)
    await before
    return resolve
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}
