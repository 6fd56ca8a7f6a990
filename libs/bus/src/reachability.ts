import type { MeshError } from '@spillway/core'
import type { ProcessorEvent } from './port.ts'

/** Whether a processor's broker is there: said when it changes, not at each failure. */
export class Reachability {
  readonly #onEvent: (event: ProcessorEvent) => void
  readonly #asMeshError: (error: unknown) => MeshError
  #isAway = false

  constructor(onEvent: (event: ProcessorEvent) => void, asMeshError: (error: unknown) => MeshError) {
    this.#onEvent = onEvent
    this.#asMeshError = asMeshError
  }

  away(error: unknown): void {
    if (this.#isAway) return
    this.#isAway = true
    this.#onEvent({ kind: 'disconnected', error: this.#asMeshError(error) })
  }

  back(): void {
    if (!this.#isAway) return
    this.#isAway = false
    this.#onEvent({ kind: 'connected' })
  }
}
