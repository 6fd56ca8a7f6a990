import type { Traffic } from '../models.ts'

/** What somebody has chosen for a model at run time. */
export interface KeptTraffic {
  /** The version that was made the default one; absent: the newest is. */
  readonly promoted?: string
  /** Version by label. */
  readonly labels: Readonly<Record<string, string>>
  /** Labels as the source wished them when they were last followed: a label that was moved since is not moved back. */
  readonly heeded: Readonly<Record<string, string>>
  readonly traffic: Traffic
}

/** Where that outlasts the process. */
export interface TrafficStore {
  /** Undefined where nothing was chosen. */
  get(model: string): KeptTraffic | undefined
  /** It is safe when this returns. @throws MeshError UNAVAILABLE where it cannot be written */
  set(model: string, kept: KeptTraffic): void
}
