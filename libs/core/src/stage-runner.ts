import { type Batch, concatBatches, takeRows } from './batch.ts'
import { MeshError } from './error.ts'
import type { Stage, StageContext } from './stage.ts'
import { fitsType, typeText } from './tensor.ts'

/** Rows that failed at one stage, as that stage was given them: row i failed with `errors[i]`. */
export interface FailedRows {
  readonly stage: string
  readonly batch: Batch
  readonly errors: readonly MeshError[]
}

/** All that became of a batch: what is bound for each sink (a topic, an ensemble's answer), in the order of the rows, and what failed. */
export interface RunResult {
  readonly outputs: ReadonlyMap<string, Batch>
  readonly failures: readonly FailedRows[]
}

/** Takes a batch through a stage and all that lies behind it up to the next sinks, in this process or another. */
export interface Runner {
  /** @throws MeshError where nothing of the batch counts as done and it may be given again */
  run(batch: Batch, context: StageContext): Promise<RunResult>
}

/** Where a port leads: on to another stage, or out of the stages. */
export type Exit = { readonly kind: 'call'; readonly runner: Runner } | { readonly kind: 'sink'; readonly sink: string }

/** Sees stages at work: for spans, metrics and logs. */
export interface StageObserver {
  /** Does a stage's work on a batch within whatever is to see it. @throws what the work throws */
  observe<T>(stage: string, batch: Batch, work: () => Promise<T>): Promise<T>
  /** A stage threw what is no `MeshError`: its code is at fault. */
  threw(stage: string, error: unknown): void
}

/** A stage in this process, with its ports joined to what follows. */
export class StageRunner implements Runner {
  readonly stage: Stage
  private readonly exits: ReadonlyMap<string, Exit>
  private readonly observer: StageObserver

  constructor(options: { readonly stage: Stage; readonly exits: ReadonlyMap<string, Exit>; readonly observer: StageObserver }) {
    this.stage = options.stage
    this.exits = options.exits
    for (const port of Object.keys(this.stage.ports))
      if (!this.exits.has(port)) throw new MeshError('INTERNAL', `port "${port}" of stage ${this.stage.name} leads nowhere`)
    this.observer = options.observer
  }

  async run(batch: Batch, context: StageContext): Promise<RunResult> {
    if (batch.rowCount === 0) return { outputs: new Map(), failures: [] }
    // A call that is over: nothing more is begun for it.
    if (context.signal.aborted) throw MeshError.from(context.signal.reason)
    const unfit = this.unfit(batch)
    if (unfit !== undefined)
      return { outputs: new Map(), failures: [{ stage: this.stage.name, batch, errors: new Array<MeshError>(batch.rowCount).fill(unfit) }] }
    const { ports, failures } = await this.observer.observe(this.stage.name, batch, () => this.runStage(batch, context))
    const parts = [...ports].filter(([, part]) => part.rowCount > 0)
    const results = await Promise.all(parts.map(([port, part]) => this.leave(port, part, context)))
    return mergeResults([...results, { outputs: new Map(), failures }])
  }

  /** Why the stage cannot read this batch: a frame or a caller may have other columns than it was made for. */
  private unfit(batch: Batch): MeshError | undefined {
    for (const [name, expected] of this.stage.accepts) {
      const column = batch.columns.get(name)
      const given = column && { datatype: column.datatype, rowShape: column.shape.slice(1) }
      if (given !== undefined && fitsType(given, expected)) continue
      const found = given === undefined ? 'and the rows have none' : `and the rows have ${typeText(given)}`
      return new MeshError('FAILED_PRECONDITION', `stage ${this.stage.name} reads column "${name}" as ${typeText(expected)}, ${found}`)
    }
    return undefined
  }

  private async leave(port: string, batch: Batch, context: StageContext): Promise<RunResult> {
    const exit = this.exits.get(port)
    if (exit === undefined) throw new MeshError('INTERNAL', `stage ${this.stage.name} gave rows on port "${port}", which leads nowhere`)
    if (exit.kind === 'call') return exit.runner.run(batch, context)
    return { outputs: new Map([[exit.sink, batch]]), failures: [] }
  }

  /** One bad row must not take its neighbours with it: a batch that fails for good is tried in halves, down to the row. */
  private async runStage(
    batch: Batch,
    context: StageContext,
  ): Promise<{ ports: ReadonlyMap<string, Batch>; failures: readonly FailedRows[] }> {
    try {
      const { outputs, failures } = await this.stage.process(batch, context)
      if (failures.length === 0) return { ports: outputs, failures: [] }
      const failed = takeRows(
        batch,
        failures.map((failure) => failure.row),
      )
      return { ports: outputs, failures: [{ stage: this.stage.name, batch: failed, errors: failures.map((failure) => failure.error) }] }
    } catch (thrown) {
      const error = MeshError.from(thrown, 'INTERNAL')
      if (error.retryable || error.code === 'CANCELLED' || context.signal.aborted) throw error
      if (!(thrown instanceof MeshError)) this.observer.threw(this.stage.name, thrown)
      if (batch.rowCount === 1) return { ports: new Map(), failures: [{ stage: this.stage.name, batch, errors: [error] }] }
      const middle = batch.rowCount >> 1
      const halves = [range(0, middle), range(middle, batch.rowCount)].map((rows) => takeRows(batch, rows))
      const results = []
      for (const half of halves) results.push(await this.runStage(half, context))
      return { ports: mergePorts(results.map((result) => result.ports)), failures: results.flatMap((result) => result.failures) }
    }
  }
}

function range(start: number, end: number): Uint32Array {
  return Uint32Array.from({ length: end - start }, (_, index) => start + index)
}

function mergePorts(maps: readonly ReadonlyMap<string, Batch>[]): ReadonlyMap<string, Batch> {
  const parts = new Map<string, Batch[]>()
  for (const map of maps) for (const [name, batch] of map) parts.set(name, [...(parts.get(name) ?? []), batch])
  return new Map([...parts].map(([name, batches]) => [name, inSourceOrder(batches)]))
}

/** Results of parts of one batch, joined; what is bound for one sink is put back into the order in which it was read. */
export function mergeResults(results: readonly RunResult[]): RunResult {
  return { outputs: mergePorts(results.map((result) => result.outputs)), failures: results.flatMap((result) => result.failures) }
}

/** Rows of several batches as one, in the order in which they were read. */
export function inSourceOrder(batches: readonly Batch[]): Batch {
  const filled = batches.filter((batch) => batch.rowCount > 0)
  if (filled.length <= 1) return filled[0] ?? batches[0]!
  const joined = concatBatches(filled)
  const offsets = Float64Array.from(joined.meta.offsets, Number)
  const rows = Uint32Array.from({ length: joined.rowCount }, (_, row) => row)
  rows.sort((a, b) => offsets[a]! - offsets[b]! || a - b)
  return takeRows(joined, rows)
}
