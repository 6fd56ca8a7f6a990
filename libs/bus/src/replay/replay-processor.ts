import { MeshError } from '@spillway/core'
import { pause } from '../backoff.ts'
import type { Handler, Lag, ProcessOptions, Processor, ProcessorEvent } from '../port.ts'
import { Slots } from '../slots.ts'
import type { CommitGate } from './commit-gate.ts'
import type { ReplayLane } from './replay-lane.ts'
import type { ReplaySink } from './replay-sink.ts'

const defaultDrainGraceMs = 10_000

/** What a processor needs of its bus. */
export interface ReplayRun {
  readonly sink: ReplaySink
  readonly gate: CommitGate
  /** Fires when the run has failed. */
  readonly failed: AbortSignal
  /** Gives the processor the lanes of its topics, for good. @throws MeshError */
  claim(options: ProcessOptions): readonly ReplayLane[]
  /** A lane has come to its end. */
  laneEnded(): void
  fail(error: MeshError): void
}

/** new -> running (start) -> draining -> drained. A lane that has come to its end is revoked: nobody needs to wait for it any more. */
export class ReplayProcessor implements Processor {
  private readonly run: () => ReplayRun
  private readonly options: ProcessOptions
  private readonly handle: Handler
  private readonly slots: Slots
  private readonly stopping = new AbortController()
  private readonly abandoned = new AbortController()
  private lanes: readonly ReplayLane[] = []
  private running: Promise<unknown> | undefined
  private drained: Promise<void> | undefined

  /** `run` throws where the bus is not started. */
  constructor(run: () => ReplayRun, options: ProcessOptions, handle: Handler) {
    this.run = run
    this.options = options
    this.handle = handle
    this.slots = new Slots(options.concurrency)
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.running !== undefined || this.drained !== undefined) throw new MeshError('FAILED_PRECONDITION', 'a processor is started once')
    const run = this.run()
    this.lanes = run.claim(this.options)
    const stopped = [this.stopping.signal, run.failed]
    const stopping = AbortSignal.any(stopped)
    const abandoned = AbortSignal.any([this.abandoned.signal, run.failed])
    this.emit({ kind: 'assigned', partitions: this.lanes.map(placeOf) })
    const { options, handle, slots } = this
    const work = { ...run, options, handle, slots, stopping, abandoned, emit: (event: ProcessorEvent) => this.emit(event) }
    this.running = Promise.all(
      this.lanes.map(async (lane) => {
        try {
          await lane.run(work)
        } catch (thrown) {
          run.fail(MeshError.from(thrown))
        }
        this.emit({ kind: 'revoked', partitions: [placeOf(lane)] })
        if (lane.finished) run.laneEnded()
      }),
    )
  }

  lags(): Promise<readonly Lag[]> {
    return Promise.resolve(this.lanes.map((lane) => lane.lag))
  }

  drain(): Promise<void> {
    this.drained ??= this.stop()
    return this.drained
  }

  private async stop(): Promise<void> {
    this.stopping.abort()
    if (this.running === undefined) return
    const settled = new AbortController()
    const finished = this.running.finally(() => settled.abort())
    await Promise.race([finished, pause(this.options.drainGraceMs ?? defaultDrainGraceMs, settled.signal)])
    this.abandoned.abort(new MeshError('CANCELLED', 'the processor was drained, and its grace is over'))
  }

  private emit(event: ProcessorEvent): void {
    this.options.onEvent?.(event)
  }
}

function placeOf({ topic, partition }: ReplayLane): { topic: string; partition: number } {
  return { topic, partition }
}
