import type { VersionStatus } from '../models.ts'
import { VersionEntry } from './version-entry.ts'
import { newestFirst } from './version-policy.ts'

/** Ended versions that the source no longer has, kept for whoever asks what became of them. */
const mostEnded = 16

/** What became of each of a model's versions that was ever to be loaded. */
export class VersionEntries {
  readonly #entries = new Map<string, VersionEntry>()

  of(version: string): VersionEntry {
    let entry = this.#entries.get(version)
    if (entry === undefined) this.#entries.set(version, (entry = new VersionEntry(version)))
    return entry
  }

  get(version: string): VersionEntry | undefined {
    return this.#entries.get(version)
  }

  newest(): readonly VersionEntry[] {
    return inOrder(this.#entries.values())
  }

  /** Newest first. @param aspired versions that are to be loaded @param labels of the model: versions by label */
  statuses(model: string, aspired: readonly string[], labels: ReadonlyMap<string, string>): readonly VersionStatus[] {
    const coming = aspired.filter((version) => !this.#entries.has(version)).map((version) => new VersionEntry(version))
    return inOrder([...this.#entries.values(), ...coming]).map((entry) => entry.status(model, labels))
  }

  /** Forgets the oldest of those that ended. @param isThere whether the source has the version */
  trim(isThere: (version: string) => boolean): void {
    const ended = this.newest().filter(({ version, state }) => state === 'END' && !isThere(version))
    for (const { version } of ended.slice(mostEnded)) this.#entries.delete(version)
  }
}

function inOrder(entries: Iterable<VersionEntry>): readonly VersionEntry[] {
  return [...entries].toSorted((a, b) => newestFirst(a.version, b.version))
}
