import { type Code, MeshError } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import type { Telemetry } from '@spillway/telemetry'
import type { Backend, ModelSignature, Tensors } from '../backend.ts'
import { OipModelClient, type RemoteDescription } from '../oip-client.ts'
import { checkOutputs } from './check-outputs.ts'

export interface RemoteBackendOptions {
  /** The model's name here, as messages have it. */
  readonly name: string
  /** `host:port` of an Open Inference Protocol gRPC server. */
  readonly address: string
  /** The model's name there, and its version; '' for the server's choice. */
  readonly model: string
  readonly version: string
  /** Calls that go on at once. */
  readonly concurrency: number
  readonly maxMessageBytes?: number
  /** How long its server may take to answer when the model is loaded. */
  readonly connectTimeoutMs: number
  readonly telemetry: Telemetry
}

/** What its server says of itself, which says nothing of this one's callers. */
const awayCodes: ReadonlySet<Code> = new Set(['NOT_FOUND', 'UNIMPLEMENTED', 'UNAUTHENTICATED', 'PERMISSION_DENIED', 'FAILED_PRECONDITION'])

/** A model of another Open Inference Protocol server (Triton, KServe, this one): a GPU is behind the network. */
export class RemoteBackend implements Backend {
  readonly #options: RemoteBackendOptions
  readonly #client: OipModelClient
  readonly stoppable = true
  readonly concurrency: number
  #description: RemoteDescription | undefined

  /** @throws MeshError INVALID_ARGUMENT where the address is not `host:port`. */
  constructor(options: RemoteBackendOptions) {
    const { address, telemetry, maxMessageBytes } = options
    this.#options = options
    this.#client = new OipModelClient(
      new GrpcChannel({ address, telemetry, ...(maxMessageBytes === undefined ? {} : { maxMessageBytes }) }),
    )
    this.concurrency = options.concurrency
  }

  get signature(): ModelSignature {
    return this.#known().signature
  }

  get maxBatchRows(): number {
    return this.#known().maxBatchRows
  }

  #known(): RemoteDescription {
    if (this.#description === undefined) throw new MeshError('UNAVAILABLE', `${this.#where} has not said yet what it takes`)
    return this.#description
  }

  get #where(): string {
    const { name, model, address } = this.#options
    return `model "${name}" (model "${model}" at ${address})`
  }

  /** Asks the server what the model takes. @throws MeshError UNAVAILABLE naming address and model where it does not say so in time. */
  async start(signal: AbortSignal): Promise<void> {
    const { model, version, connectTimeoutMs } = this.#options
    const limit = AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)])
    try {
      await this.#client.waitForReady(limit)
      this.#description = await this.#client.describe(model, version, limit)
    } catch (thrown) {
      await this.#client.drain()
      if (signal.aborted) throw MeshError.from(thrown)
      throw this.#failed(thrown, limit.aborted ? `no answer within ${connectTimeoutMs} ms` : undefined)
    }
  }

  async run(inputs: Tensors, signal: AbortSignal, deadlineMs: number = Infinity): Promise<Tensors> {
    const { model, version } = this.#options
    let outputs: Tensors
    try {
      ;({ outputs } = await this.#client.call({ model, version, inputs, deadlineMs, signal }))
    } catch (thrown) {
      throw this.#failed(thrown)
    }
    const rows = inputs.values().next().value?.shape[0] ?? 0
    checkOutputs(this.#where, this.signature, outputs, rows)
    return outputs
  }

  #failed(thrown: unknown, message?: string): MeshError {
    const error = MeshError.from(thrown)
    const code = message !== undefined || awayCodes.has(error.code) ? 'UNAVAILABLE' : error.code
    const field = error.field === undefined ? {} : { field: error.field }
    return new MeshError(code, `${this.#where}: ${message ?? error.message}`, { cause: thrown, ...field })
  }

  drain(): Promise<void> {
    return this.#client.drain()
  }
}
