import { Counter, Gauge, type Registry } from 'prom-client'
import { BatchHistogram } from './batch-histogram.ts'
import { Counted } from './counted.ts'
import { type LatencySummary, LatencyWindow } from './latency-window.ts'

/** What a queue holds now. */
export interface QueueState {
  readonly depth: number
  /** How long its oldest entry has waited; 0 where it is empty. */
  readonly oldestAgeMs: number
}

/** How far a group is behind on a partition, as the bus tells it. */
export interface PartitionLag {
  readonly topic: string
  readonly partition: number
  readonly committedOffset: bigint
  readonly endOffset: bigint
}

/** The mesh in numbers, for a live status: totals since the start of the process, queues and latency as they are now. */
export interface MeshStatus {
  readonly eventsIn: readonly { readonly topic: string; readonly rows: number }[]
  readonly outputsOut: readonly { readonly sink: string; readonly rows: number }[]
  readonly stages: readonly { readonly stage: string; readonly rows: number }[]
  readonly tiers: readonly { readonly tier: string; readonly reason: string; readonly rows: number }[]
  readonly deadLetters: readonly { readonly stage: string; readonly code: string; readonly rows: number }[]
  readonly degradedRows: number
  readonly queues: readonly (QueueState & { readonly queue: string })[]
  readonly lagRecords: number
  /** Ingest to prediction. */
  readonly latency: LatencySummary
}

/** Every metric of the mesh. Methods are called once a batch; none is asked per row. */
export interface MeshMetrics {
  /** Records read from a topic. */
  eventsIn(topic: string, rows: number): void
  /** Records written to an output or internal topic. */
  outputsOut(sink: string, rows: number): void
  /** A batch that a stage has processed, and how long that took. */
  stageRows(stage: string, rows: number, seconds: number): void
  /** Rows by the tier that answered them (its index or model) and why: `accepted`, `escalated`, `last-tier`, `degraded`, … */
  tierRows(tier: string, reason: string, rows: number): void
  /** Rows that left as dead letters, by the stage that failed and the error's code. */
  deadLetters(stage: string, code: string, rows: number): void
  /** Rows answered by a lower tier because the higher one, `tier`, was away (`unavailable`) or out of time (`deadline`). */
  degraded(tier: string, reason: 'unavailable' | 'deadline', rows: number): void
  /** A tier's circuit breaker is in this state from now on. */
  breaker(tier: string, state: 'closed' | 'open' | 'half-open'): void
  /** Vectors of synchronous calls that the feature log had no room for. */
  featureLogDropped(rows: number): void
  /** Ingest to prediction, ms, one a row. */
  observeLatencies(latenciesMs: Float64Array): void
  /** `read` is called when metrics or status are. Returns what ends the watch. */
  watchQueue(queue: string, read: () => QueueState): () => void
  /** Replaces all that was known of the group. */
  consumerLags(group: string, lags: readonly PartitionLag[]): void
  status(): MeshStatus
}

const breakerStates = ['closed', 'open', 'half-open'] as const
const stageBoundsS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const endToEndBoundsS = [
  0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2,
  3, 5, 7.5, 10,
]

/** Makes and registers them: once a registry. Names and labels of messaging are OpenTelemetry's ("Messaging metrics"), written as Prometheus does. */
export function createMeshMetrics(registry: Registry): MeshMetrics {
  const counters = makeCounters(registry)
  const stageSeconds = new BatchHistogram(registry, 'spillway_stage_duration_seconds', 'Time a stage took for a batch.', stageBoundsS)
  const endToEnd = new BatchHistogram(
    registry,
    'spillway_end_to_end_latency_seconds',
    'Time from ingest to prediction, by row.',
    endToEndBoundsS,
  )
  const endToEndSeries = endToEnd.series('', () => ({}))
  const window = new LatencyWindow()
  const queues = watchedQueues(registry)
  const lags = groupLags(registry)
  const breakers = new Gauge({
    name: 'spillway_breaker_state',
    help: "1 for the state that the circuit breaker of a tier's model is in.",
    labelNames: ['tier', 'state'],
    registers: [registry],
  })
  return {
    eventsIn: (topic, rows) => counters.eventsIn.add(rows, topic),
    outputsOut: (sink, rows) => counters.outputsOut.add(rows, sink),
    stageRows: (stage, rows, seconds) => {
      counters.stageRows.add(rows, stage)
      stageSeconds.series(stage, () => ({ stage })).observe(seconds)
    },
    tierRows: (tier, reason, rows) => counters.tierRows.add(rows, tier, reason),
    deadLetters: (stage, code, rows) => counters.deadLetters.add(rows, stage, code),
    degraded: (tier, reason, rows) => counters.degraded.add(rows, tier, reason),
    breaker: (tier, state) => {
      counters.breakerChanges.add(1, tier, state)
      for (const each of breakerStates) breakers.set({ tier, state: each }, each === state ? 1 : 0)
    },
    featureLogDropped: (rows) => counters.featureLogDropped.inc(rows),
    observeLatencies: (latenciesMs) => {
      endToEndSeries.observeAll(latenciesMs, 0.001)
      window.record(latenciesMs)
    },
    watchQueue: queues.watch,
    consumerLags: lags.replace,
    status: () => ({
      eventsIn: counters.eventsIn.totals().map(({ labels, total }) => ({ topic: labels.messaging_destination_name, rows: total })),
      outputsOut: counters.outputsOut.totals().map(({ labels, total }) => ({ sink: labels.messaging_destination_name, rows: total })),
      stages: counters.stageRows.totals().map(({ labels, total }) => ({ ...labels, rows: total })),
      tiers: counters.tierRows.totals().map(({ labels, total }) => ({ ...labels, rows: total })),
      deadLetters: counters.deadLetters.totals().map(({ labels, total }) => ({ ...labels, rows: total })),
      degradedRows: counters.degraded.totals().reduce((sum, { total }) => sum + total, 0),
      queues: queues.read(),
      lagRecords: lags.total(),
      latency: window.summary(),
    }),
  }
}

interface Counters {
  readonly eventsIn: Counted<'messaging_destination_name'>
  readonly outputsOut: Counted<'messaging_destination_name'>
  readonly stageRows: Counted<'stage'>
  readonly tierRows: Counted<'tier' | 'reason'>
  readonly deadLetters: Counted<'stage' | 'code'>
  readonly degraded: Counted<'tier' | 'reason'>
  readonly breakerChanges: Counted<'tier' | 'state'>
  readonly featureLogDropped: Counter
}

function makeCounters(registry: Registry): Counters {
  return {
    eventsIn: new Counted(registry, 'messaging_client_consumed_messages_total', 'Records read, by topic.', ['messaging_destination_name']),
    outputsOut: new Counted(registry, 'messaging_client_sent_messages_total', 'Records written, by topic.', ['messaging_destination_name']),
    stageRows: new Counted(registry, 'spillway_stage_rows_total', 'Rows that a stage has processed.', ['stage']),
    tierRows: new Counted(registry, 'spillway_tier_rows_total', 'Rows by tier and by the reason of its decision.', ['tier', 'reason']),
    deadLetters: new Counted(registry, 'spillway_dead_letters_total', 'Rows that became dead letters.', ['stage', 'code']),
    degraded: new Counted(registry, 'spillway_degraded_rows_total', 'Rows answered by a lower tier than they should have been.', [
      'tier',
      'reason',
    ]),
    breakerChanges: new Counted(registry, 'spillway_breaker_changes_total', "Changes of a circuit breaker's state, by the state entered.", [
      'tier',
      'state',
    ]),
    featureLogDropped: new Counter({
      name: 'spillway_feature_log_dropped_rows_total',
      help: 'Vectors of synchronous calls that the feature log had no room for.',
      registers: [registry],
    }),
  }
}

function watchedQueues(registry: Registry): { watch: MeshMetrics['watchQueue']; read: () => MeshStatus['queues'] } {
  const readers = new Map<string, () => QueueState>()
  const gauge = (name: string, help: string, value: (state: QueueState) => number): void => {
    const made = new Gauge({
      name,
      help,
      labelNames: ['queue'],
      registers: [registry],
      collect: () => {
        made.reset()
        for (const [queue, read] of readers) made.set({ queue }, value(read()))
      },
    })
  }
  gauge('spillway_queue_depth', 'Entries that wait.', (state) => state.depth)
  gauge('spillway_queue_age_seconds', 'How long the oldest entry has waited.', (state) => state.oldestAgeMs / 1000)
  return {
    watch: (queue, read) => {
      readers.set(queue, read)
      return () => {
        if (readers.get(queue) === read) readers.delete(queue)
      }
    },
    read: () => Array.from(readers, ([queue, read]) => ({ queue, ...read() })),
  }
}

function groupLags(registry: Registry): { replace: MeshMetrics['consumerLags']; total: () => number } {
  const groups = new Map<string, readonly PartitionLag[]>()
  const records = (lag: PartitionLag): number => Number(lag.endOffset - lag.committedOffset)
  const gauge = new Gauge({
    name: 'spillway_consumer_lag_records',
    help: 'Records that a group has not yet committed.',
    labelNames: ['messaging_destination_name', 'messaging_destination_partition_id', 'messaging_consumer_group_name'],
    registers: [registry],
    collect: () => {
      gauge.reset()
      for (const [group, lags] of groups) for (const lag of lags) gauge.labels(lag.topic, String(lag.partition), group).set(records(lag))
    },
  })
  return {
    replace: (group, lags) => void groups.set(group, lags),
    total: () => [...groups.values()].flat().reduce((sum, lag) => sum + records(lag), 0),
  }
}
