import { ReplayBus, type ReplayProgress, type ReplaySink, type ReplaySource } from '@spillway/bus'
import { type Component, MeshError } from '@spillway/core'
import { BatchHistories, cacheBytes } from './batch-histories.ts'
import { batchProcess, type BatchProcessOptions } from './batch-process.ts'
import type { WorkFolder } from './work-folder.ts'

export interface BatchRunOptions extends BatchProcessOptions {
  /** One an input. */
  readonly sources: readonly ReplaySource[]
  readonly sink: ReplaySink
  /** Without one, the run is done at one go. */
  readonly work: WorkFolder | undefined
  readonly checkpointEveryMs: number
  readonly onProgress: (progress: ReplayProgress) => void
}

/** A pipeline over finite inputs: the code that serves, on a replay bus. Runs once. */
export class BatchRun {
  private readonly options: BatchRunOptions
  private readonly components: Component[] = []

  constructor(options: BatchRunOptions) {
    this.options = options
  }

  /**
   * Resolves when every input is read to its end and all outputs are with the sink.
   * @throws MeshError CANCELLED where the signal fired first (with a work folder, another run goes on from there); what sources, stages and sink threw
   */
  async run(signal: AbortSignal): Promise<void> {
    const { work, sources, sink, pipeline, checkpointEveryMs, onProgress } = this.options
    const begin = async <T extends Component>(component: T): Promise<T> => {
      this.components.push(component)
      await component.start(signal)
      return component
    }
    try {
      const histories = new BatchHistories(work, cacheBytes)
      await begin(histories.store)
      const bus = new ReplayBus({
        sources,
        sink,
        checkpointEveryMs,
        partitions: pipeline.partitions,
        onProgress,
        ...(histories.checkpoints && { checkpoints: histories.checkpoints }),
      })
      await begin(bus)
      onProgress(bus.progress())
      // The positions are stored with the histories: there is nothing that the mesh would have to hold against each other.
      await begin(await batchProcess(this.options, { bus, store: histories.store, begin, signal }))
      await unlessAborted(bus.done(), signal)
    } finally {
      // The last started is drained first; the bus then takes its last checkpoint, with the histories still there.
      while (this.components.length > 0) await this.components.pop()!.drain()
    }
  }
}

async function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const stopped = Promise.withResolvers<void>()
  const stop = (): void => stopped.reject(new MeshError('CANCELLED', 'stopped before its end'))
  signal.addEventListener('abort', stop, { once: true })
  try {
    if (signal.aborted) stop()
    await Promise.race([work, stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
