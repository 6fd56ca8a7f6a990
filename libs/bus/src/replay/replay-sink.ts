import type { Write } from '../port.ts'

/** What a replay's outputs stand for: input up to here. */
export interface ReplayedSlice {
  readonly topic: string
  readonly partition: number
  /** First offset that these outputs do not answer. */
  readonly nextOffset: bigint
}

/**
 * Takes a replay's outputs. They are there exactly once, whatever is killed when, if what the sink has is always that of a whole checkpoint:
 *
 * - all that is written after `flush(n - 1)` and before `flush(n)` belongs to checkpoint `n` (as in a part file with `n` in its name);
 * - `flush(n)` resolves when all of it would survive the end of the process, or the power cut that is to be survived;
 * - `resume(n)` undoes all that belongs to later checkpoints than `n`, flushed or not: their inputs are read again. `resume(0)` undoes everything.
 *
 * The calls are never concurrent with `flush`, nor for one partition. A rejection ends the run; the next one goes on from the last checkpoint.
 */
export interface ReplaySink {
  /** Called once, first: the checkpoint that is gone on from, 0 where none is. */
  resume(checkpoint: number): Promise<void>
  /** Slices of one partition come in order, of several side by side. Called for slices without outputs too. */
  write(slice: ReplayedSlice, writes: readonly Write[]): Promise<void>
  /** Checkpoint `n` is stored once this resolves. Numbers ascend by one; a number whose checkpoint was not stored comes again after a restart. */
  flush(checkpoint: number): Promise<void>
}
