import type { Worker } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { PartsRun, Tensors } from '../backend.ts'
import { copyRegion, regionBytes, writeRegion } from './shared-tensors.ts'
import {
  closing,
  type Control,
  deadlineNumber,
  inRegion,
  mailed,
  makeControl,
  replyBell,
  replyBytesNumber,
  requestBell,
  requestKind,
  ring,
  runUsNumber,
  type WorkerDescription,
  type WorkerMail,
  type WorkerMessage,
} from './worker-protocol.ts'

const firstRestartMs = 100
const longestRestartMs = 10_000
const firstRegionBytes = 64 * 1024

export interface WorkerReply extends PartsRun {
  /** The run alone, µs: the caller knows what the hop added. */
  readonly runUs: number
}

/** Of a call to what can be ended: not of one into a native runtime, which would take the process with it. */
export interface CallLimits {
  /** ms since the epoch; told to the worker. */
  readonly deadlineMs: number
  /** The thread of a call that takes longer is ended. */
  readonly timeoutMs: number
}

interface Call {
  readonly inputMs: number
  readonly impatient: NodeJS.Timeout | undefined
  readonly resolve: (reply: WorkerReply) => void
  readonly reject: (error: MeshError) => void
}

/**
 * A place for one worker thread. `starting`: the thread loads the model. `idle`: it can take a call. `busy`: it runs one.
 * `down`: the thread has died, and another is started after a back-off. `closed`: for good.
 */
export class ModelWorker {
  readonly #spawn: (control: SharedArrayBuffer) => Worker
  readonly #logger: Telemetry['logger']
  readonly #onChange: () => void
  #state: 'starting' | 'idle' | 'busy' | 'down' | 'closed' = 'down'
  #worker: Worker | undefined
  #control: Control = makeControl()
  #description: WorkerDescription | undefined
  #request = new SharedArrayBuffer(0)
  #reply = new SharedArrayBuffer(0)
  #call: Call | undefined
  #restartMs = firstRestartMs
  #restartTimer: NodeJS.Timeout | undefined

  constructor(spawn: (control: SharedArrayBuffer) => Worker, logger: Telemetry['logger'], onChange: () => void) {
    this.#spawn = spawn
    this.#logger = logger
    this.#onChange = onChange
  }

  get state(): 'starting' | 'idle' | 'busy' | 'down' | 'closed' {
    return this.#state
  }

  /** @throws MeshError why the model cannot be loaded. */
  start(): Promise<WorkerDescription> {
    this.#state = 'starting'
    this.#control = makeControl()
    this.#request = new SharedArrayBuffer(0)
    return new Promise<WorkerDescription>((resolve, reject) => {
      const worker = this.#spawn(this.#control.memory)
      this.#worker = worker
      worker.on('message', (message: WorkerMessage) => {
        if (worker !== this.#worker || this.#state === 'closed') return
        if (message.kind === 'ready') {
          this.#description = message.description
          this.#becomeIdle()
          resolve(message.description)
        } else if (message.kind === 'grown') {
          this.#reply = message.reply
          this.#endWait()
          this.#finish()
        } else if (this.#state === 'starting') {
          reject(new MeshError(message.code, message.message))
          void worker.terminate()
        } else {
          this.#endWait()
          this.#fail(message)
        }
      })
      worker.on('error', (error) => this.#logger.error({ err: error }, 'a model worker failed'))
      worker.on('exit', (code) => {
        if (worker !== this.#worker) return
        reject(new MeshError('UNAVAILABLE', `the model worker ended with code ${code} while it loaded`))
        this.#died(code)
      })
    })
  }

  /** Only where `idle`. Runs the rows of all parts as one. @throws MeshError UNAVAILABLE where the thread dies meanwhile, DEADLINE_EXCEEDED where it is ended. */
  call(parts: readonly Tensors[], limits?: CallLimits): Promise<WorkerReply> {
    const startedMs = performance.now()
    const { words } = this.#control
    const columns = this.#description!.signature.inputs
    const bytes = regionBytes(columns, parts)
    Atomics.store(words, requestKind, bytes > this.#request.byteLength ? this.#mailRegions(bytes) : inRegion)
    writeRegion(this.#request, columns, parts)
    this.#state = 'busy'
    this.#control.numbers[deadlineNumber] = limits?.deadlineMs ?? Infinity
    const inputMs = performance.now() - startedMs
    return new Promise<WorkerReply>((resolve, reject) => {
      const impatient = limits === undefined ? undefined : setTimeout(() => this.#end(limits.timeoutMs), limits.timeoutMs)
      const call: Call = { inputMs, impatient, resolve, reject }
      this.#call = call
      const seen = Atomics.load(words, replyBell)
      ring(this.#control, requestBell)
      const waited = Atomics.waitAsync(words, replyBell, seen)
      if (!waited.async) return this.#answered(call)
      void waited.value.then(() => this.#answered(call))
    })
  }

  #mailRegions(bytes: number): number {
    const first = this.#request.byteLength === 0
    this.#request = new SharedArrayBuffer(Math.max(bytes * 2, firstRegionBytes))
    if (first) this.#reply = new SharedArrayBuffer(firstRegionBytes)
    const mail: WorkerMail = { request: this.#request, ...(first ? { reply: this.#reply } : {}) }
    this.#worker!.postMessage(mail, [])
    return mailed
  }

  /** The bell rang: for this call, unless that has ended by a message or with its thread. */
  #answered(call: Call): void {
    if (this.#call === call) this.#finish()
  }

  /** A reply by message rings no bell: it could be heard as that of the next call. */
  #endWait(): void {
    Atomics.notify(this.#control.words, replyBell)
  }

  #finish(): void {
    const { numbers } = this.#control
    const startedMs = performance.now()
    const outputs = copyRegion(this.#reply, this.#description!.signature.outputs, numbers[replyBytesNumber]!)
    const call = this.#endCall()
    this.#restartMs = firstRestartMs
    call?.resolve({ outputs, inputMs: call.inputMs, outputMs: performance.now() - startedMs, runUs: numbers[runUsNumber]! })
    this.#becomeIdle()
  }

  #fail({ code, message, field }: Extract<WorkerMessage, { kind: 'failed' }>): void {
    const call = this.#endCall()
    this.#restartMs = firstRestartMs
    call?.reject(new MeshError(code, message, field === undefined ? {} : { field }))
    this.#becomeIdle()
  }

  #endCall(): Call | undefined {
    const call = this.#call
    this.#call = undefined
    clearTimeout(call?.impatient)
    return call
  }

  #end(timeoutMs: number): void {
    this.#endCall()?.reject(
      new MeshError('DEADLINE_EXCEEDED', `the model took longer than the ${timeoutMs} ms that its config allows; its thread is ended`),
    )
    void this.#worker?.terminate()
  }

  #becomeIdle(): void {
    this.#state = 'idle'
    this.#onChange()
  }

  #died(code: number): void {
    const loaded = this.#state === 'busy' || this.#state === 'idle'
    this.#worker = undefined
    this.#endCall()?.reject(new MeshError('UNAVAILABLE', `the model worker died (code ${code}) during the call; it is being restarted`))
    if (this.#state === 'closed') return
    this.#state = 'down'
    this.#endWait()
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

  /** Asks the thread to end, which frees what the model held, and waits: one that is ended in the middle of a native run takes the process with it. */
  async close(): Promise<void> {
    const worker = this.#worker
    this.#state = 'closed'
    clearTimeout(this.#restartTimer)
    if (worker === undefined) return
    const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
    Atomics.store(this.#control.words, requestKind, closing)
    ring(this.#control, requestBell)
    await ended
  }
}
