import type { Models, Traffic } from '@spillway/serving'

/** A model as `/v2/repository/models` gives it. */
export interface ModelState {
  readonly name: string
  readonly ready: boolean
  /** Why what the repository has of it could not be looked at, or is nothing that is to be served. */
  readonly problem?: string
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
  const problem = models.problem(name)
  return {
    name,
    ready: models.isReady(name),
    ...(problem !== undefined && { problem: problem.message }),
    default_version: models.defaultVersion(name) ?? null,
    versions,
    labels: Object.fromEntries(models.labels(name)),
    traffic: models.traffic(name),
  }
}
