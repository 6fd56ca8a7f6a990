import { setTimeout as wait } from 'node:timers/promises'
import {
  type Batch,
  type FailedRows,
  mergeResults,
  MeshError,
  type Runner,
  type RunResult,
  sliceBatch,
  type StageContext,
  takeRows,
} from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { split } from './suspicion.ts'

export interface FaultyRun {
  readonly batch: Batch
  /** The stage that rows which alone fail are dead letters of. */
  readonly stage: string
  readonly runner: Runner
  readonly context: StageContext
}

/** Attempts at a slice as a whole before it is asked whether some of its rows are at fault. */
const wholeAttempts = 4
/** Times that a row alone must fail, with a good row answered before each, to be given up. */
const aloneAttempts = 3
/** A good row to ask with is taken anew this often: an old one may be refused before it reaches what is asked about. */
const probeAgeMs = 1000
const maxPauseMs = 2000
/** How long a slice is held while nothing is answered, before the bus waits for it instead: a drain need not wait for an outage. */
const maxOutageMs = 3000
/** Batches whose failures are counted; what was given to another process is never looked for again. */
const maxPlaces = 1000

/**
 * Tells what is away from rows that make it fail. What fails with a transient code is thrown, and the bus offers the slice again, for ever:
 * an outage loses nothing and makes no dead letter. But a slice that keeps failing while another row, known to be good, is answered is cut into parts,
 * each part that fails into smaller ones, always waiting first until the good row is answered again (a row may bring down what it is given to); a row that so fails alone three times is
 * a dead letter with its own code.
 */
export class TransientFaults {
  private readonly logger: Telemetry['logger']
  /** By stage and first row: how often a batch failed. */
  private readonly failures = new Map<string, { readonly count: number; readonly error: MeshError }>()
  /** A row that was answered. */
  private readonly probes = new Map<Runner, { readonly batch: Batch; readonly takenMs: number }>()

  constructor(logger: Telemetry['logger']) {
    this.logger = logger
  }

  /** @throws what the runner throws, unless it is a transient failure that stays with some rows */
  async run(given: FaultyRun): Promise<RunResult> {
    const { batch, stage, runner, context } = given
    const place = placeOf(stage, batch)
    const before = this.failures.size === 0 ? undefined : this.failures.get(place)
    // Whole again would bring down again what one of its rows brings down.
    if (before !== undefined && before.count >= wholeAttempts && this.probes.has(runner)) return this.sortedOut(given, place, before.error)
    try {
      const result = await runner.run(batch, context)
      if (before !== undefined) this.failures.delete(place)
      this.remember(runner, batch, result)
      return result
    } catch (thrown) {
      if (!isTransient(thrown, context)) throw thrown
      if (this.failures.size >= maxPlaces) this.failures.clear()
      const count = (before?.count ?? 0) + 1
      this.failures.set(place, { count, error: thrown })
      // Without a row that is known to be good, some row of the slice may be.
      if (count < wholeAttempts || this.probes.has(runner) || batch.rowCount === 1) throw thrown
      return this.sortedOut(given, place, thrown)
    }
  }

  private async sortedOut(given: FaultyRun, place: string, error: MeshError): Promise<RunResult> {
    const { batch, stage, runner } = given
    if (this.probes.has(runner) && !(await this.recovered(given, maxOutageMs))) throw error
    const { code, message } = error
    this.logger.warn({ stage, place, code, reason: message }, 'a slice kept failing: its rows are tried apart')
    const result = batch.rowCount === 1 ? await this.alone(given, error) : await this.apart(given, error)
    this.failures.delete(place)
    return result
  }

  /** All rows of a batch that failed as a whole with `error`. */
  private async apart(given: FaultyRun, error: MeshError): Promise<RunResult> {
    const { batch, runner, context } = given
    const results: RunResult[] = []
    const failed: { readonly part: Batch; readonly error: MeshError }[] = []
    for (const [from, to] of split([0, batch.rowCount])) {
      const part = sliceBatch(batch, from, to)
      // What the part before has brought down must be up again.
      if (failed.length > 0) await this.recovered(given)
      try {
        const result = await runner.run(part, context)
        this.remember(runner, part, result)
        results.push(result)
      } catch (thrown) {
        if (!isTransient(thrown, context)) throw thrown
        failed.push({ part, error: thrown })
      }
    }
    if (results.length === 0 && !this.probes.has(runner)) throw error
    for (const { part, error: cause } of failed) {
      await this.recovered(given)
      const rest = { ...given, batch: part }
      results.push(part.rowCount === 1 ? await this.alone(rest, cause) : await this.apart(rest, cause))
    }
    return mergeResults(results)
  }

  /** One row, which has failed. */
  private async alone(given: FaultyRun, error: MeshError): Promise<RunResult> {
    const { batch, stage, runner, context } = given
    let last = error
    for (let failed = 1; failed < aloneAttempts; failed++) {
      await this.recovered(given)
      try {
        return await runner.run(batch, context)
      } catch (thrown) {
        if (!isTransient(thrown, context)) throw thrown
        last = thrown
      }
    }
    if (!(await this.recovered(given))) throw last
    this.logger.error({ stage, ids: batch.meta.ids, code: last.code, reason: last.message }, 'a row that alone fails becomes a dead letter')
    const message = `failed ${aloneAttempts} times alone, while other rows were answered: ${last.message}`
    const failures: FailedRows[] = [{ stage, batch, errors: [new MeshError(last.code, message, { cause: last })] }]
    return { outputs: new Map(), failures }
  }

  /** Waits until the good row is answered; false where none is known, or it takes longer than that. @throws MeshError CANCELLED when the signal fires */
  private async recovered(given: FaultyRun, withinMs = Infinity): Promise<boolean> {
    const { signal } = given.context
    const probe = this.probes.get(given.runner)
    if (probe === undefined) return false
    const endMs = performance.now() + withinMs
    for (let pauseMs = 50; ; pauseMs = Math.min(2 * pauseMs, maxPauseMs)) {
      const answer = await answerOf(probe.batch, given)
      if (answer === 'good') return true
      // It may have become too old for its stages: it says nothing of what is away then.
      if (answer === 'refused') {
        this.probes.delete(given.runner)
        return false
      }
      if (performance.now() > endMs) return false
      await wait(pauseMs, undefined, { signal }).catch(() => undefined)
      if (signal.aborted) throw new MeshError('CANCELLED', 'the slice was given up', { cause: signal.reason })
    }
  }

  private remember(runner: Runner, batch: Batch, { failures }: RunResult): void {
    const nowMs = performance.now()
    if (batch.rowCount === 0 || failures.length > 0 || nowMs - (this.probes.get(runner)?.takenMs ?? -Infinity) < probeAgeMs) return
    const row = takeRows(batch, [batch.rowCount - 1])
    const meta = { ...row.meta, deadlinesMs: Float64Array.of(Infinity) }
    this.probes.set(runner, { batch: { ...row, meta }, takenMs: nowMs })
  }
}

function placeOf(stage: string, { meta }: Batch): string {
  return `${stage} ${meta.topics[0]}/${meta.partitions[0]}/${meta.offsets[0]}`
}

/** An outage that the error itself owns up to is nothing to ask the good row about: it may be answered without what is away, from a cache. */
function isTransient(thrown: unknown, { signal }: StageContext): thrown is MeshError {
  return thrown instanceof MeshError && thrown.retryable && !thrown.isOutage && !signal.aborted
}

/** What comes of it is dropped: to handle a row again changes nothing. */
async function answerOf(row: Batch, { runner, context }: FaultyRun): Promise<'good' | 'refused' | 'away'> {
  try {
    return (await runner.run(row, context)).failures.length === 0 ? 'good' : 'refused'
  } catch (thrown) {
    if (thrown instanceof MeshError && thrown.retryable) return 'away'
    throw thrown
  }
}
