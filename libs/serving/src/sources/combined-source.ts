import { MeshError } from '@spillway/core'
import type { ModelSource, SourceModel } from '../lifecycle/source.ts'

/** Several sources as one: several repositories, or one and a list of models. A model that more than one of them has is refused. */
export class CombinedSource implements ModelSource {
  readonly #sources: readonly ModelSource[]

  constructor(sources: readonly ModelSource[]) {
    this.#sources = sources
  }

  get description(): string {
    return this.#sources.map(({ description }) => description).join(' and ')
  }

  get settleMs(): number {
    return Math.max(...this.#sources.map(({ settleMs }) => settleMs))
  }

  async names(signal: AbortSignal): Promise<readonly string[]> {
    const names = await Promise.all(this.#sources.map((source) => source.names(signal)))
    return [...new Set(names.flat())].toSorted()
  }

  async model(name: string, signal: AbortSignal): Promise<SourceModel> {
    const looks = await Promise.allSettled(this.#sources.map((source) => source.model(name, signal)))
    // One that could not look, or has something of that name that is no model, counts as one that has it.
    const found = looks.filter((look) => look.status === 'fulfilled' || !isAbsent(look.reason))
    if (found.length > 1) {
      const those = this.#sources.filter((_, index) => found.includes(looks[index]!)).map(({ description }) => description)
      throw new MeshError('FAILED_PRECONDITION', `model "${name}" is in ${those.join(' and in ')}: expected it in one of them`)
    }
    const look = found[0] ?? looks[0]!
    if (look.status === 'rejected') throw look.reason
    return look.value
  }

  watch(changed: () => void): () => void {
    const ends = this.#sources.map((source) => source.watch?.(changed))
    return () => {
      for (const end of ends) end?.()
    }
  }
}

function isAbsent(thrown: unknown): boolean {
  return thrown instanceof MeshError && thrown.code === 'NOT_FOUND'
}
