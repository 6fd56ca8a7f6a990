import type { ModelSignature } from '../backend.ts'
import type { ModelHandle, Models } from '../models.ts'
import { versionChoice } from './request-parameters.ts'

export interface TensorMetadata {
  readonly name: string
  readonly datatype: string
  /** Whole; -1 is any size. */
  readonly shape: readonly number[]
}

/** As both forms of the protocol give it ("Model Metadata"). */
export interface ModelMetadata {
  readonly name: string
  /** Those that are served, in ascending order; the one that was asked for where one was. */
  readonly versions: readonly string[]
  readonly platform: string
  readonly inputs: readonly TensorMetadata[]
  readonly outputs: readonly TensorMetadata[]
}

/** @throws MeshError NOT_FOUND, UNAVAILABLE as `Models.acquire` */
export async function modelMetadata(models: Models, name: string, version: string): Promise<ModelMetadata> {
  return useModel(models, name, version, ({ signature, config }) => ({
    name,
    versions: version === '' ? servedVersions(models, name) : [versionChoice(version).version!],
    platform: config.platform,
    inputs: tensors(signature, 'inputs'),
    outputs: tensors(signature, 'outputs'),
  }))
}

/** Gives the work one version of a model, and releases it. */
export async function useModel<T>(models: Models, name: string, version: string, work: (handle: ModelHandle) => T): Promise<T> {
  const handle = await models.acquire(name, versionChoice(version))
  try {
    return work(handle)
  } finally {
    handle.release()
  }
}

function servedVersions(models: Models, name: string): string[] {
  const served = models.statuses(name).filter(({ state }) => state === 'AVAILABLE')
  return served.map(({ version }) => version).toSorted((a, b) => a.length - b.length || (a < b ? -1 : 1))
}

function tensors(signature: ModelSignature, side: 'inputs' | 'outputs'): TensorMetadata[] {
  return Array.from(signature[side], ([name, { datatype, rowShape }]) => ({
    name,
    datatype,
    shape: signature.wholeShapes?.get(name) ?? [-1, ...rowShape],
  }))
}
