import type { InferRequest, InferResponse, ModelClient, ModelSignature } from '../backend.ts'
import type { Models } from '../models.ts'
import { inferByKey, isSplit } from '../traffic/infer-by-key.ts'

/** Models of this process, through the same batcher and queue as calls from outside. */
export class LocalModelClient implements ModelClient {
  readonly #models: Models

  constructor(models: Models) {
    this.#models = models
  }

  async signature(model: string, _signal?: AbortSignal): Promise<ModelSignature> {
    const handle = await this.#models.acquire(model)
    handle.release()
    return handle.signature
  }

  async infer({ model, version, inputs, rowCount, keys, deadlineMs, signal }: InferRequest): Promise<InferResponse> {
    if (keys !== undefined && rowCount > 0 && version === undefined && isSplit(this.#models, model))
      return inferByKey(this.#models, { model, inputs, keys }, (handle, own, rows) => handle.infer(own, rows, { deadlineMs, signal }))
    const acquired = this.#models.acquire(model, version === undefined ? {} : { version })
    const handle = acquired instanceof Promise ? await acquired : acquired
    try {
      const outputs = await handle.infer(inputs, rowCount, { deadlineMs, signal })
      return { model, version: handle.version, outputs }
    } finally {
      handle.release()
    }
  }
}
