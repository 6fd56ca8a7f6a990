import type { MessagePort } from 'node:worker_threads'
import { receiveMessageOnPort } from 'node:worker_threads'
import type { Tensors } from '../backend.ts'
import { readRegion, regionBytes, writeRegion } from './shared-tensors.ts'
import {
  closing,
  type Control,
  failedMessage,
  mailed,
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

/** The worker's side of the calls of its owner: one at a time. */
export class WorkerLoop {
  readonly #port: MessagePort
  readonly #control: Control
  readonly #description: WorkerDescription
  #request = new SharedArrayBuffer(0)
  #reply = new SharedArrayBuffer(0)
  #seen = 0

  constructor(port: MessagePort, control: Control, description: WorkerDescription) {
    this.#port = port
    this.#control = control
    this.#description = description
  }

  /** Answers calls until the owner closes. The thread sleeps between them, and turns its event loop once after each: native memory is freed there. */
  async serve(run: (inputs: Tensors) => Tensors): Promise<void> {
    this.#tell({ kind: 'ready', description: this.#description })
    for (;;) {
      Atomics.wait(this.#control.words, requestBell, this.#seen)
      if (!this.#take()) return
      try {
        const startedMs = performance.now()
        const outputs = run(this.#inputs())
        this.#answer(outputs, startedMs)
      } catch (error) {
        this.#fail(error)
      }
      await new Promise(setImmediate)
    }
  }

  /** As `serve`, for what runs asynchronously: the event loop goes on between calls. */
  async serveAsync(run: (inputs: Tensors) => Promise<Tensors>): Promise<void> {
    this.#tell({ kind: 'ready', description: this.#description })
    // A wait for a bell keeps no thread alive.
    const alive = setInterval(() => undefined, 1_000_000_000)
    for (;;) {
      const waited = Atomics.waitAsync(this.#control.words, requestBell, this.#seen)
      if (waited.async) await waited.value
      if (!this.#take()) return clearInterval(alive)
      try {
        const startedMs = performance.now()
        const outputs = await run(this.#inputs())
        this.#answer(outputs, startedMs)
      } catch (error) {
        this.#fail(error)
      }
    }
  }

  /** Whether there is a request, and no end. */
  #take(): boolean {
    this.#seen = Atomics.load(this.#control.words, requestBell)
    const kind = Atomics.load(this.#control.words, requestKind)
    if (kind === mailed) {
      for (let mail = receiveMessageOnPort(this.#port); mail !== undefined; mail = receiveMessageOnPort(this.#port)) {
        const { request, reply } = mail.message as WorkerMail
        this.#request = request ?? this.#request
        this.#reply = reply ?? this.#reply
      }
    }
    return kind !== closing
  }

  #inputs(): Tensors {
    return readRegion(this.#request, this.#description.signature.inputs)
  }

  #answer(outputs: Tensors, startedMs: number): void {
    const { numbers } = this.#control
    numbers[runUsNumber] = (performance.now() - startedMs) * 1000
    const columns = this.#description.signature.outputs
    const bytes = regionBytes(columns, [outputs])
    const grown = bytes > this.#reply.byteLength
    if (grown) this.#reply = new SharedArrayBuffer(bytes * 2)
    writeRegion(this.#reply, columns, [outputs])
    numbers[replyBytesNumber] = bytes
    if (grown) this.#tell({ kind: 'grown', reply: this.#reply })
    else ring(this.#control, replyBell)
  }

  #tell(message: WorkerMessage): void {
    this.#port.postMessage(message, [])
  }

  #fail(error: unknown): void {
    this.#tell(failedMessage(error))
  }
}
