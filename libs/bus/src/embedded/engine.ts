import type { Telemetry } from '@spillway/telemetry'
import type { Committer } from './committer.ts'
import type { LogStore } from './log-store.ts'
import type { Router } from './routing.ts'

/** What an open bus is made of, as its processors and subscriptions need it. */
export interface Engine {
  readonly store: LogStore
  readonly committer: Committer
  readonly router: Router
  /** `<group> <topic>` of each running processor: two would do the same slices twice. */
  readonly claims: Set<string>
  readonly logger: Telemetry['logger'] | undefined
}
