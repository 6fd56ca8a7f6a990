import type { InferRequest, InferResponse, ModelClient, ModelSignature } from './backend.ts'
import type { ModelManager } from './manager.ts'

/** Models of this process, through the same batcher and queue as calls from outside. */
export class LocalModelClient implements ModelClient {
  readonly #manager: ModelManager

  constructor(manager: ModelManager) {
    this.#manager = manager
  }

  async signature(model: string, _signal?: AbortSignal): Promise<ModelSignature> {
    return this.#manager.signature(model)
  }

  async infer({ model, version, inputs, rowCount, deadlineMs, signal }: InferRequest): Promise<InferResponse> {
    const handle = this.#manager.acquire(model, version)
    try {
      const outputs = await handle.infer(inputs, rowCount, deadlineMs, signal)
      return { model, version: handle.servable.version, outputs }
    } finally {
      handle.release()
    }
  }
}
