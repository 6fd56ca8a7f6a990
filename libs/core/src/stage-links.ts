import { type Batch, takeRows, withColumns } from './batch.ts'
import type { Stage, StageContext } from './stage.ts'
import { type Exit, type Runner, type RunResult, type StageObserver, StageRunner } from './stage-runner.ts'

/** Where a port of a graph's stage leads: to another of its stages, or out of it. */
export type PortLink = { readonly stage: string } | { readonly sink: string }

/** A stage of a graph, and where its ports lead. */
export interface LinkedStage {
  readonly stage: Stage
  readonly links: ReadonlyMap<string, PortLink>
  /**
   * How many ports must have brought the same rows before the stage is given them, with the columns of all: for stages behind others that work side by side.
   * Absent: the rows of each port are taken on at once, by themselves.
   */
  readonly gathers?: number
}

/** A graph of stages, without cycles, whose ports are joined: a pipeline's in one process, or an ensemble's. */
export class StageLinks {
  readonly #node: (id: string) => LinkedStage | Runner
  readonly #observer: StageObserver
  readonly #runners = new Map<string, Runner>()

  /** @param options `node`: a stage that is here, or what takes batches to one that is elsewhere; asked once an id */
  constructor(options: { readonly node: (id: string) => LinkedStage | Runner; readonly observer: StageObserver }) {
    this.#node = options.node
    this.#observer = options.observer
  }

  /** A stage and all that follows it. One `StageContext` is one run: where stages gather, a second run needs a context of its own. */
  runner(id: string): Runner {
    let runner = this.#runners.get(id)
    if (runner === undefined) this.#runners.set(id, (runner = this.#link(this.#node(id))))
    return runner
  }

  #link(node: LinkedStage | Runner): Runner {
    if ('run' in node) return node
    const { stage, links, gathers = 1 } = node
    const exits = new Map<string, Exit>()
    for (const [port, link] of links)
      exits.set(port, 'sink' in link ? { kind: 'sink', sink: link.sink } : { kind: 'call', runner: this.runner(link.stage) })
    const runner = new StageRunner({ stage, exits, observer: this.#observer })
    return gathers > 1 ? new Gathering(runner, gathers) : runner
  }
}

const nothing: RunResult = { outputs: new Map(), failures: [] }

/** Waits, without holding anybody up, until a run's rows have come from every side; whoever comes last takes them on. */
class Gathering implements Runner {
  readonly #runner: Runner
  readonly #sides: number
  /** A run that fails on one side is never complete: what the others brought goes with its context. */
  readonly #arrived = new WeakMap<StageContext, Batch[]>()

  constructor(runner: Runner, sides: number) {
    this.#runner = runner
    this.#sides = sides
  }

  async run(batch: Batch, context: StageContext): Promise<RunResult> {
    const arrived = this.#arrived.get(context) ?? []
    arrived.push(batch)
    this.#arrived.set(context, arrived)
    if (arrived.length < this.#sides) return nothing
    this.#arrived.delete(context)
    return this.#runner.run(joinColumns(arrived), context)
  }
}

/** The rows that all batches have, known by their source offsets, with the columns of all: a row that failed on one side has its failure already. */
function joinColumns(batches: readonly Batch[]): Batch {
  const first = batches[0]!
  const aligned = batches.every(({ meta }) => meta === first.meta) ? batches : commonRows(batches)
  return withColumns(
    aligned[0]!,
    aligned.slice(1).flatMap(({ columns }) => [...columns]),
  )
}

function commonRows(batches: readonly Batch[]): readonly Batch[] {
  const sides = batches.map(({ meta }) => new Set(meta.offsets))
  return batches.map((batch) => {
    const rows = Array.from(batch.meta.offsets.keys()).filter((row) => sides.every((side) => side.has(batch.meta.offsets[row]!)))
    return rows.length === batch.rowCount ? batch : takeRows(batch, rows)
  })
}
