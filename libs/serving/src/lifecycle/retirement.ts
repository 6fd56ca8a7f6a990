import type { Telemetry } from '@spillway/telemetry'
import type { Servable } from './servable.ts'

/** Servables that take no new calls: each is freed when the calls that have it are answered. */
export class Retirement {
  readonly #logger: Telemetry['logger']
  readonly #leaving = new Map<Servable, Promise<void>>()

  constructor(logger: Telemetry['logger']) {
    this.#logger = logger
  }

  /** Not freed yet. */
  get servables(): readonly Servable[] {
    return [...this.#leaving.keys()]
  }

  /** Resolves when the servable's memory is free. Never rejects. */
  add(servable: Servable, reason: string): Promise<void> {
    const freed = this.#free(servable, reason)
    this.#leaving.set(servable, freed)
    return freed
  }

  async #free(servable: Servable, reason: string): Promise<void> {
    const { model, version } = servable.parts
    try {
      await servable.unload()
      this.#logger.info({ model, version, reason }, 'a model version is unloaded')
    } catch (error) {
      this.#logger.error({ model, version, err: error }, 'a model version could not be unloaded')
    } finally {
      this.#leaving.delete(servable)
    }
  }

  /** Resolves when all are freed. */
  async done(): Promise<void> {
    await Promise.all(this.#leaving.values())
  }
}
