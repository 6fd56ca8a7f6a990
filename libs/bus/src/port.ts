import type { BytesColumn, Component, MeshError } from '@spillway/core'

/** Header values are text; a value that is not valid UTF-8 is read with replacement characters. */
export type RecordHeaders = Readonly<Record<string, string>>

/** Records in columns: no object per record until somebody asks for one. */
export interface Records {
  readonly count: number
  /** Absent where no record has a key; an empty key counts as none. */
  readonly keys?: BytesColumn
  readonly values: BytesColumn
  /** ms since the epoch; as input optional: where absent, or NaN, the bus stamps the time of acceptance. */
  readonly timestampsMs?: Float64Array
  readonly headers?: readonly (RecordHeaders | undefined)[]
}

/** Records as the bus hands them out: consecutive, all of one partition. `offsets` need not be dense (Kafka's transaction markers and compaction leave holes). */
export interface Slice {
  readonly topic: string
  readonly partition: number
  readonly records: Records & { readonly timestampsMs: Float64Array }
  /** Ascending, one a record. */
  readonly offsets: BigInt64Array
}

/** One write: `partition` where its records must land there, else each record's key decides (murmur2 as Java's client, empty key round robin). */
export interface Write {
  readonly topic: string
  readonly partition?: number
  readonly records: Records
}

/** Committed together with the slice's position, or not at all. */
export interface Outputs {
  readonly writes: readonly Write[]
  /** How many of the slice's records these outputs answer, from its first; all where absent. The rest is offered again, first thing. At least 1. */
  readonly consumed?: number
}

/** What is known beside a slice: whether a process before this one died over it, and what its outputs' topics take. */
export interface Attempt {
  /**
   * This process has taken the partition over and not committed since: whoever had it before may have died over these records. The first slice then holds
   * all that the partition had, within the limits: no less than whoever had it before was given.
   */
  readonly takenOver: boolean
  /** The note that was kept last, by this process or one before it; undefined where something was committed since, or its keeper ended in order. */
  readonly note: string | undefined
  /**
   * Largest record that the topic takes, as far as is known: it may take less than the bus. A commit that a topic refuses for a record's size makes it
   * known, and the slice is offered again: what is larger must be split or left out then.
   */
  maxRecordBytes(topic: string): number
  /**
   * Keeps a note, of at most 1,000 characters, with the position until the next commit; durable and fenced as a commit is, and at its price. One at a time.
   * A bus whose runs are not taken over (replay) keeps none.
   * @throws where the handler's outputs could not be committed either: it must end then
   */
  keepNote(note: string): Promise<void>
}

/** The signal fires when the outputs can no longer be committed: the partition went to another owner, or a drain ran out of its grace. */
export type Handler = (slice: Slice, signal: AbortSignal, attempt: Attempt) => Promise<Outputs>

export interface ProcessOptions {
  /** All with the same count of partitions; partition `i` of each goes to the same owner. */
  readonly topics: readonly string[]
  readonly group: string
  /** Where a group without a position begins. */
  readonly from: 'earliest' | 'latest'
  readonly maxSliceRecords: number
  /** Keys, values and headers of a slice, at most; a record larger than this is offered alone. */
  readonly maxSliceBytes: number
  /** Slices of different partitions handled side by side, at most. */
  readonly concurrency: number
  /**
   * What the group's positions rest on, 1 to 200 characters: the identity of a feature store, say. It is committed with each position. A position
   * that was committed with another stamp is refused: the partition is left alone, and looked at again every few seconds, while the others go on.
   * A position without a stamp is taken on, as is any position where this is absent.
   */
  readonly stamp?: string
  /** A drain waits this long for the handlers in flight, then fires their signal and leaves their slices uncommitted; 10 s where absent. */
  readonly drainGraceMs?: number
  /** Told each state that an operator should see: waiting for a broker, rejoining, a partition's handler failing and tried again. */
  readonly onEvent?: (event: ProcessorEvent) => void
}

export type ProcessorEvent =
  | { readonly kind: 'assigned' | 'revoked'; readonly partitions: readonly { readonly topic: string; readonly partition: number }[] }
  | {
      readonly kind: 'retrying'
      readonly topic: string
      readonly partition: number
      readonly attempt: number
      readonly delayMs: number
      readonly error: MeshError
    }
  /** A partition's position has another stamp: it is not processed until that changes. Said once; when it changes, the partition is assigned again. */
  | { readonly kind: 'refused'; readonly topic: string; readonly partition: number; readonly error: MeshError }
  | { readonly kind: 'disconnected'; readonly error: MeshError }
  | { readonly kind: 'connected' }

/** How far a group is behind on a partition. */
export interface Lag {
  readonly topic: string
  readonly partition: number
  /** First offset not yet committed. */
  readonly committedOffset: bigint
  /** Offset that the next record will get. */
  readonly endOffset: bigint
}

/** Runs until drained. A handler that throws is given the same slice again, with back-off, for ever: what cannot succeed must be made a dead letter by the handler. */
export interface Processor extends Component {
  /** Resolves when the group's positions are found: with `latest`, what is published from then on is offered. @throws MeshError NOT_FOUND for an unknown topic, FAILED_PRECONDITION where the topics' counts of partitions differ. */
  start(signal: AbortSignal): Promise<void>
  lags(): Promise<readonly Lag[]>
}

export type StartPosition = 'earliest' | 'latest' | ReadonlyMap<number, bigint>

export interface Subscription {
  readonly topic: string
  /** A map gives the next offset to read, by partition; partitions it leaves out start at the earliest. An offset no longer retained starts at the earliest retained. */
  readonly from: StartPosition
  /**
   * Where to end: by partition, the first offset that is not wanted. The iteration ends when each partition named here has come to its own, past
   * whatever holds no record (Kafka's transaction markers, aborted and compacted records); an offset that is not there yet is waited for.
   * Partitions left out are not read. Without it the iteration goes on for ever.
   */
  readonly until?: ReadonlyMap<number, bigint>
  /** Whether records that retention dropped before they were read are DATA_LOSS, and end the iteration; without it, it goes on at the earliest retained. */
  readonly complete?: boolean
  readonly maxSliceRecords: number
  readonly signal: AbortSignal
}

export interface TopicSettings {
  readonly name: string
  readonly partitions: number
  /** Records older than this may be dropped; never where absent. */
  readonly retentionMs?: number
  /** Oldest records of a partition may be dropped beyond this size; never where absent. */
  readonly retentionBytes?: number
}

export interface TopicDescription {
  readonly name: string
  readonly partitions: number
}

export interface TopicAdmin {
  /** Creates what is missing; leaves what exists. @throws MeshError FAILED_PRECONDITION where an existing topic has another count of partitions. */
  ensure(topics: readonly TopicSettings[]): Promise<void>
  describe(name: string): Promise<TopicDescription | undefined>
  list(): Promise<readonly TopicDescription[]>
  /** Per partition, the earliest retained offset and the offset that the next record will get. */
  offsets(name: string): Promise<readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]>
}

/** What an adapter promises of `process`: outputs and position together, or effectively so for as long as duplicates are recognised. */
export type Guarantee = { readonly kind: 'exactly-once' } | { readonly kind: 'effectively-once'; readonly withinMs: number }

/** A log of topics. Every record that is read is committed: an aborted transaction's records are never seen. */
export interface Bus extends Component {
  readonly name: string
  readonly guarantee: Guarantee
  /** Largest record that the bus takes: key, value and headers, in bytes. */
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  /**
   * Resolves when the records are durable, with each record's place in the order given.
   * @param partition where the records must land; each record's key decides where absent, as for a `Write`
   * @throws MeshError NOT_FOUND for an unknown topic, INVALID_ARGUMENT for a partition that is not there or a record over `maxRecordBytes`,
   * RESOURCE_EXHAUSTED where the bus is full
   */
  publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]>
  /**
   * The committed view from a position on, without a group; goes on, waiting for more, until the signal fires or `until` is reached.
   * @throws MeshError NOT_FOUND for an unknown topic, INVALID_ARGUMENT for a partition of `until` that is not there, DATA_LOSS as `complete` says, CANCELLED where the bus
   * is drained before `until` is reached
   */
  subscribe(subscription: Subscription): AsyncIterable<Slice>
  /** Read a slice, give outputs, mark the slice done: atomically. Starts nothing until `start`. */
  process(options: ProcessOptions, handle: Handler): Processor
}

export interface RecordPosition {
  readonly partition: number
  readonly offset: bigint
}
