import type { Slice } from '../port.ts'

/** A partition to be replayed. */
export interface ReplayPartition {
  readonly partition: number
  /** First offset to be read. */
  readonly from: bigint
  /** First offset not to be read; undefined where only reading tells (the lines of a file). */
  readonly end: bigint | undefined
}

export interface ReplayInput {
  /** Names this very input (a file's name, size and digest; a topic's name) for people: a checkpoint goes on only where it is equal. */
  readonly identity: string
  readonly partitions: readonly ReplayPartition[]
}

/** The finite input that stands for one topic. */
export interface ReplaySource {
  readonly topic: string
  /**
   * Called once, before all else: what is to be read, decided now.
   * @param resumed what it answered when the run that is gone on with began: those ends hold
   * @throws MeshError where there is no such input, or no longer
   */
  open(resumed: ReplayInput | undefined, signal: AbortSignal): Promise<ReplayInput>
  /**
   * A partition's records from an offset on, to its end, in order; each with a timestamp. Called once a partition. What is read ahead is bounded.
   * @param maxSliceRecords a hint: larger slices are cut
   * @throws MeshError where the input cannot be read: the run ends with it
   */
  read(partition: number, from: bigint, maxSliceRecords: number, signal: AbortSignal): AsyncIterable<Slice>
  /** How much of a partition was read, 0 to 1; for partitions whose `end` is not known. */
  readShare?(partition: number): number
}
