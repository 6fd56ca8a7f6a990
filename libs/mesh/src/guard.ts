import type { Batch, Runner, RunResult, StageContext } from '@spillway/core'
import type { Attempt } from '@spillway/bus'
import type { Telemetry } from '@spillway/telemetry'
import type { Isolation } from './isolation.ts'
import { TransientFaults } from './transient-faults.ts'

export interface GuardedRows {
  readonly batch: Batch
  /** The place of the batch's first row among all rows of the slice. */
  readonly firstRow: number
  /** The stage that the rows enter. */
  readonly stage: string
  readonly runner: Runner
}

/** Takes a segment's rows through their stages so that no row holds its partition for ever, by ending its process or by failing again and again. */
export class Guard {
  private readonly isolation: Isolation
  private readonly faults: TransientFaults

  constructor(isolation: Isolation, logger: Telemetry['logger']) {
    this.isolation = isolation
    this.faults = new TransientFaults(logger)
  }

  /** @throws MeshError where the slice is to be offered again */
  run({ runner, ...rows }: GuardedRows, attempt: Attempt, context: StageContext): Promise<RunResult> {
    const { stage } = rows
    const { signal } = context
    return this.isolation.run({ ...rows, attempt, signal, run: (batch) => this.faults.run({ batch, stage, runner, context }) })
  }
}
