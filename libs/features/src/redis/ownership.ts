import type { Owner } from '../store.ts'

/** Keys that nobody owns. */
export const nobody = ''

export function ownerName({ topic, partition }: Owner): string {
  return `${topic}/${partition}`
}

/** How long keys that turned out to have another writer count as nobody's. */
const contestedMs = 60_000

/** Which partitions' keys may be remembered, and since when. */
export class Ownership {
  /** Grows when an owner's keys are forgotten: what was being read before must not be remembered. */
  private readonly epochs = new Map<string, number>()
  /** By owner: until when another writer is expected. */
  private readonly contested = new Map<string, number>()

  /** What an owner's keys are held under. */
  nameOf(owner: Owner | undefined): string {
    if (owner === undefined) return nobody
    const name = ownerName(owner)
    const untilMs = this.contested.get(name)
    if (untilMs === undefined) return name
    if (Date.now() < untilMs) return nobody
    this.contested.delete(name)
    return name
  }

  epoch(name: string): number {
    return this.epochs.get(name) ?? 0
  }

  /** Its keys are forgotten. */
  lose(name: string): void {
    this.epochs.set(name, this.epoch(name) + 1)
  }

  /** Somebody else writes to its keys: for a while they are nobody's, so that two that take themselves for the owner do not stop each other for ever. */
  contest(name: string): void {
    this.lose(name)
    this.contested.set(name, Date.now() + contestedMs)
  }
}
