import type { Worker } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { Tensors } from '../backend.ts'
import { type CallLimits, ModelWorker, type WorkerReply } from './model-worker.ts'
import type { WorkerDescription } from './worker-protocol.ts'

/** Calls that wait for a worker: the batcher gives no more than there are workers, so these are few. */
const maxWaiting = 1_000

/** Worker threads with an instance of the model each, every one for one call at a time. */
export class WorkerPool {
  /** As messages name it. */
  readonly #what: string
  readonly #workers: readonly ModelWorker[]
  readonly #waiting: (() => void)[] = []

  constructor(what: string, size: number, spawn: (control: SharedArrayBuffer) => Worker, logger: Telemetry['logger']) {
    this.#what = what
    const wake = (): void => {
      for (const waiter of this.#waiting.splice(0)) waiter()
    }
    this.#workers = Array.from({ length: size }, () => new ModelWorker(spawn, logger, wake))
  }

  get size(): number {
    return this.#workers.length
  }

  /** @throws MeshError why the model cannot be loaded; no thread is left then. */
  async start(): Promise<WorkerDescription> {
    const loads = await Promise.allSettled(this.#workers.map((worker) => worker.start()))
    const failure = loads.find((load) => load.status === 'rejected')
    if (failure !== undefined) {
      await this.close()
      throw MeshError.from(failure.reason)
    }
    return (loads[0] as PromiseFulfilledResult<WorkerDescription>).value
  }

  /** On an idle worker; waits for one where all are busy. @throws MeshError UNAVAILABLE where none is alive or it dies; as the run. */
  call(parts: readonly Tensors[], limits?: CallLimits): Promise<WorkerReply> {
    const idle = this.#workers.find((worker) => worker.state === 'idle')
    return idle === undefined ? this.#callLater(parts, limits) : idle.call(parts, limits)
  }

  async #callLater(parts: readonly Tensors[], limits: CallLimits | undefined): Promise<WorkerReply> {
    for (;;) {
      if (!this.#workers.some((worker) => worker.state === 'busy'))
        throw new MeshError('UNAVAILABLE', `no worker of ${this.#what} is up; one is being restarted`)
      if (this.#waiting.length >= maxWaiting) throw new MeshError('RESOURCE_EXHAUSTED', `too many runs wait for a worker of ${this.#what}`)
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
      const idle = this.#workers.find((worker) => worker.state === 'idle')
      if (idle !== undefined) return idle.call(parts, limits)
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()))
  }
}
