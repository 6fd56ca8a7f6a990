import { MeshError } from '@spillway/core'
import type { ModelSignature, Tensors } from './backend.ts'
import type { ModelConfig } from './config/model-config.ts'
import type { ModelManager } from './manager.ts'
import type { InferOptions, ModelHandle, Models, ModelStatistics, Traffic, VersionChoice, VersionStatus } from './models.ts'
import type { Handle } from './servable.ts'

/** The manager's models as the protocols see them: one version each, loaded for good. */
export class ManagerModels implements Models {
  readonly #manager: ModelManager

  constructor(manager: ModelManager) {
    this.#manager = manager
  }

  get ready(): boolean {
    return this.#manager.ready
  }

  names(): readonly string[] {
    return [...this.#manager.models].toSorted()
  }

  statuses(model: string): readonly VersionStatus[] {
    const handle = this.acquire(model)
    handle.release()
    return [{ model, version: handle.version, state: 'AVAILABLE', labels: [] }]
  }

  isReady(model: string, choice: VersionChoice = {}): boolean {
    return this.#manager.isReady(model, choice.version)
  }

  acquire(model: string, choice: VersionChoice = {}): ModelHandle {
    return new LoadedHandle(this.#manager.acquire(model, choice.version))
  }

  statistics(): readonly ModelStatistics[] {
    return []
  }

  async load(model: string): Promise<void> {
    throw fixed(model)
  }

  async unload(model: string): Promise<void> {
    throw fixed(model)
  }

  async promote(model: string): Promise<void> {
    throw fixed(model)
  }

  labels(): ReadonlyMap<string, string> {
    return new Map()
  }

  setLabel(model: string): void {
    throw fixed(model)
  }

  traffic(): Traffic {
    return { split: [] }
  }

  setTraffic(model: string): void {
    throw fixed(model)
  }
}

class LoadedHandle implements ModelHandle {
  readonly model: string
  readonly version: string
  readonly signature: ModelSignature
  readonly config: ModelConfig
  readonly classLabels: ReadonlyMap<string, readonly string[]> = new Map()
  readonly #handle: Handle

  constructor(handle: Handle) {
    const { model, version, signature, maxBatchRows } = handle.servable
    this.#handle = handle
    this.model = model
    this.version = version
    this.signature = signature
    this.config = {
      name: model,
      backend: 'onnxruntime',
      platform: 'onnxruntime_onnx',
      maxBatchSize: Number.isFinite(maxBatchRows) ? maxBatchRows : 1024,
      versionPolicy: { kind: 'latest', count: 1 },
      warmup: [],
      parameters: new Map(),
    }
  }

  infer(inputs: Tensors, rowCount: number, { deadlineMs, signal }: InferOptions): Promise<Tensors> {
    return this.#handle.infer(inputs, rowCount, deadlineMs, signal)
  }

  release(): void {
    this.#handle.release()
  }
}

function fixed(model: string): MeshError {
  return new MeshError('UNIMPLEMENTED', `model "${model}" is loaded with the service, and stays as it is`)
}
