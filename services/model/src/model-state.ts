import type { Models, Traffic } from '@spillway/serving'

/** A model as `/v2/repository/models` gives it. */
export interface ModelState {
  readonly name: string
  readonly ready: boolean
  /** Where calls go while there is no split; null while nothing of it is served. */
  readonly default_version: string | null
  /** Newest first; states as TensorFlow Serving's. */
  readonly versions: readonly { readonly version: string; readonly state: string; readonly reason?: string }[]
  /** Versions by label. */
  readonly labels: Readonly<Record<string, string>>
  readonly traffic: Traffic
}

/** @throws MeshError NOT_FOUND */
export function modelState(models: Models, name: string): ModelState {
  const versions = models.statuses(name).map(({ version, state, error }) => ({
    version,
    state,
    ...(error !== undefined && { reason: error.message }),
  }))
  return {
    name,
    ready: models.isReady(name),
    default_version: models.defaultVersion(name) ?? null,
    versions,
    labels: Object.fromEntries(models.labels(name)),
    traffic: models.traffic(name),
  }
}
