import type { Worker } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { OnnxDescription } from './onnx-session.ts'
import type { WorkerReply, WorkerRequest } from './worker-protocol.ts'

const firstRestartMs = 100
const longestRestartMs = 10_000

type Done = Extract<WorkerReply, { kind: 'done' }>

interface Call {
  readonly resolve: (reply: Done) => void
  readonly reject: (error: MeshError) => void
}

/**
 * A place for one worker thread. `starting`: the thread loads the model. `idle`: it can take a call. `busy`: it runs one.
 * `down`: the thread has died, and another is started after a back-off. `closed`: for good.
 */
export class ModelWorker {
  readonly #spawn: () => Worker
  readonly #logger: Telemetry['logger']
  readonly #onChange: () => void
  #state: 'starting' | 'idle' | 'busy' | 'down' | 'closed' = 'down'
  #worker: Worker | undefined
  #call: Call | undefined
  #restartMs = firstRestartMs
  #restartTimer: NodeJS.Timeout | undefined

  constructor(spawn: () => Worker, logger: Telemetry['logger'], onChange: () => void) {
    this.#spawn = spawn
    this.#logger = logger
    this.#onChange = onChange
  }

  get state(): 'starting' | 'idle' | 'busy' | 'down' | 'closed' {
    return this.#state
  }

  /** @throws MeshError why the model cannot be loaded. */
  start(): Promise<OnnxDescription> {
    this.#state = 'starting'
    return new Promise<OnnxDescription>((resolve, reject) => {
      const worker = this.#spawn()
      this.#worker = worker
      worker.on('message', (reply: WorkerReply) => {
        if (worker !== this.#worker || this.#state === 'closed') return
        if (reply.kind === 'ready') {
          this.#becomeIdle()
          resolve(reply.description)
        } else if (this.#state === 'starting' && reply.kind === 'failed') {
          reject(new MeshError(reply.code, reply.message))
          void worker.terminate()
        } else this.#finish(reply as Exclude<WorkerReply, { kind: 'ready' }>)
      })
      worker.on('error', (error) => this.#logger.error({ err: error }, 'a model worker failed'))
      worker.on('exit', (code) => {
        if (worker !== this.#worker) return
        reject(new MeshError('UNAVAILABLE', `the model worker ended with code ${code} while it loaded`))
        this.#died(code)
      })
    })
  }

  /** Only where `idle`. @throws MeshError UNAVAILABLE where the thread dies meanwhile. */
  call(request: WorkerRequest, buffers: ArrayBuffer[]): Promise<Done> {
    this.#state = 'busy'
    return new Promise<Done>((resolve, reject) => {
      this.#call = { resolve, reject }
      this.#worker!.postMessage(request, buffers)
    })
  }

  #finish(reply: Exclude<WorkerReply, { kind: 'ready' }>): void {
    const call = this.#call
    this.#call = undefined
    this.#restartMs = firstRestartMs
    if (reply.kind === 'done') call?.resolve(reply)
    else call?.reject(new MeshError(reply.code, reply.message, reply.field === undefined ? {} : { field: reply.field }))
    this.#becomeIdle()
  }

  #becomeIdle(): void {
    this.#state = 'idle'
    this.#onChange()
  }

  #died(code: number): void {
    const loaded = this.#state === 'busy' || this.#state === 'idle'
    this.#worker = undefined
    this.#call?.reject(new MeshError('UNAVAILABLE', `the model worker died (code ${code}) during the call; it is being restarted`))
    this.#call = undefined
    if (this.#state === 'closed') return
    this.#state = 'down'
    // A first load that fails is for `start`'s caller to judge; later ones are tried again until they work.
    if (loaded) this.#restartLater()
    this.#onChange()
  }

  #restartLater(): void {
    this.#logger.error({ restartMs: this.#restartMs }, 'a model worker died and will be restarted')
    this.#restartTimer = setTimeout(() => {
      this.start().catch((error: unknown) => {
        this.#logger.error({ err: error }, 'a model worker could not be restarted')
        if (this.#state !== 'closed') this.#restartLater()
      })
    }, this.#restartMs)
    this.#restartMs = Math.min(this.#restartMs * 2, longestRestartMs)
  }

  /** Ends the thread; a call that is still running fails. */
  async close(): Promise<void> {
    this.#state = 'closed'
    clearTimeout(this.#restartTimer)
    await this.#worker?.terminate()
  }
}
