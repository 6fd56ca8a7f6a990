import type { Attempt, Bus, Write } from '@spillway/bus'
import { type Batch, type FailedRows, MeshError, type RunResult, takeRows } from '@spillway/core'
import type { FrameInfo } from '@spillway/wire'
import type { SegmentPlan } from './graph.ts'
import type { Pipeline } from './pipeline.ts'
import { encodeDeadLetters, encodeEvents, encodeFrames, type Encoded, type Sink, type SinkContext } from './sinks.ts'

export interface SegmentOutputsOptions {
  readonly plan: SegmentPlan
  readonly pipeline: Pipeline
  readonly bus: Bus
  readonly sinks: ReadonlyMap<string, Sink>
}

/** What becomes of a slice: all that is written, and what that was encoded from. */
export interface Encodings {
  readonly writes: readonly Write[]
  /** What was given, less the rows that a sink refused: those are among the failures. */
  readonly result: RunResult
}

/** Rows that are too large for a topic, by their places in its batch. */
interface Refusal {
  readonly topic: string
  readonly rows: readonly number[]
  readonly error: MeshError
}

/** Encodes a segment's results. A row that is too large for one of its topics leaves all of them, and is one dead letter. */
export class SegmentOutputs {
  private readonly options: SegmentOutputsOptions
  private readonly frame: FrameInfo

  constructor(options: SegmentOutputsOptions) {
    const { pipeline, plan } = options
    this.options = options
    this.frame = { schema: pipeline.schemaHash, release: pipeline.release, target: plan.name }
  }

  /** @param known what was encoded already, by topic */
  encode(partition: number, result: RunResult, attempt: Attempt, known?: ReadonlyMap<string, Write>): Encodings {
    const encoded = new Map<string, Write>()
    const refusals: Refusal[] = []
    for (const [topic, batch] of result.outputs) {
      const before = known?.get(topic)
      const { write, oversize } =
        before === undefined ? this.encodeOutput(topic, batch, partition, attempt) : { write: before, oversize: [] }
      encoded.set(topic, write)
      if (oversize.length > 0) refusals.push({ topic, rows: oversize, error: this.tooLarge(topic, attempt) })
    }
    if (refusals.length > 0) {
      const rest = this.withdraw(result, refusals)
      const unchanged = [...encoded].filter(([topic]) => rest.outputs.get(topic) === result.outputs.get(topic))
      return this.encode(partition, rest, attempt, new Map(unchanged))
    }
    const writes = [...encoded.values()].filter(({ records }) => records.count > 0)
    const { deadLetterTopic } = this.options.pipeline
    if (result.failures.length > 0) {
      const context = this.context(deadLetterTopic, partition, attempt)
      writes.push(encodeDeadLetters(this.options.plan.name, result.failures, context))
    }
    return { writes, result }
  }

  private encodeOutput(topic: string, batch: Batch, partition: number, attempt: Attempt): Encoded {
    const sink = this.sinkOf(topic)
    const context = this.context(topic, partition, attempt)
    if (sink.kind === 'frames') return encodeFrames(batch, context)
    return encodeEvents(batch, sink.type, `spillway/${this.options.pipeline.name}`, context)
  }

  /**
   * The result without the refused rows, nor whatever else comes of them. Each is a letter by its answer, which holds the event; one that has
   * failed behind the output that refused it is a letter already. Rows of several outputs are one by the position of their event.
   */
  private withdraw({ outputs, failures }: RunResult, refusals: readonly Refusal[]): RunResult {
    // Where several outputs refuse a row, the letter names the one that its answer was bound for.
    const ordered = refusals.toSorted((a, b) => Number(this.sinkOf(b.topic).answers) - Number(this.sinkOf(a.topic).answers))
    const refused = new Map<string, Refusal>()
    for (const refusal of ordered) {
      const { meta } = outputs.get(refusal.topic)!
      for (const row of refusal.rows) if (!refused.has(positionOf(meta, row))) refused.set(positionOf(meta, row), refusal)
    }
    const kept = new Map<string, Batch>()
    const letters: FailedRows[] = []
    for (const [topic, batch] of outputs) {
      const rows = Array.from({ length: batch.rowCount }, (_, row) => row)
      const byRefusal = Map.groupBy(rows, (row) => refused.get(positionOf(batch.meta, row)))
      const left = byRefusal.get(undefined) ?? []
      kept.set(topic, left.length === batch.rowCount ? batch : takeRows(batch, left))
      if (!this.sinkOf(topic).answers) continue
      for (const [refusal, dropped] of byRefusal)
        if (refusal !== undefined)
          letters.push({ stage: `sink ${refusal.topic}`, batch: takeRows(batch, dropped), errors: dropped.map(() => refusal.error) })
    }
    return { outputs: kept, failures: [...failures, ...letters] }
  }

  private sinkOf(topic: string): Sink {
    const sink = this.options.sinks.get(topic)
    if (sink === undefined)
      throw new MeshError('INTERNAL', `segment ${this.options.plan.name} has an output for ${topic}, which it does not write`)
    return sink
  }

  private context(topic: string, partition: number, attempt: Attempt): SinkContext {
    const sink = this.options.sinks.get(topic)
    const schema = sink?.kind === 'frames' ? sink.schema : undefined
    const frame = schema === undefined ? this.frame : { ...this.frame, schema }
    return { topic, partition, frame, maxRecordBytes: this.maxRecordBytes(topic, attempt) }
  }

  private maxRecordBytes(topic: string, attempt: Attempt): number {
    return Math.min(this.options.bus.maxRecordBytes, attempt.maxRecordBytes(topic))
  }

  private tooLarge(topic: string, attempt: Attempt): MeshError {
    const maxBytes = this.maxRecordBytes(topic, attempt)
    return new MeshError('OUT_OF_RANGE', `the row does not fit into a record of topic ${topic}, which takes ${maxBytes} bytes`)
  }
}

function positionOf({ topics, partitions, offsets }: Batch['meta'], row: number): string {
  return `${topics[row]}/${partitions[row]}/${offsets[row]}`
}
