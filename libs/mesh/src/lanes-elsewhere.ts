import type { Clock } from '@spillway/core'
import type { LaneReport } from '@spillway/features'

interface Told {
  readonly watermarkMs: number
  readonly idle: boolean
  readonly beat: number
  /** When its beat was last seen to change, by this process's clock; -Infinity where it never was. */
  readonly aliveMs: number
}

/** A lane whose beat stays for longer has lost its owner; owners report several times within it. */
const beatHoldsMs = 3000

/**
 * How far the partitions of other processes have come, by what these told. A watermark only rises: it says what is history already, whoever
 * made it so. A lane without an owner that beats holds the others at its last watermark: its records wait for the next owner.
 */
export class LanesElsewhere {
  private readonly lanes = new Map<string, Told>()
  private readonly clock: Clock

  constructor(lanes: readonly string[], clock: Clock) {
    this.clock = clock
    for (const lane of lanes) this.lanes.set(lane, { watermarkMs: -Infinity, idle: false, beat: 0, aliveMs: -Infinity })
  }

  told(lane: string): { readonly watermarkMs: number; readonly beat: number } | undefined {
    return this.lanes.get(lane)
  }

  /** A lane that was this process's own until now: what it was is known, and that nobody has it yet. */
  takeOver(lane: string, { watermarkMs, beat }: { readonly watermarkMs: number; readonly beat: number }): void {
    if (this.lanes.has(lane)) this.lanes.set(lane, { watermarkMs, idle: false, beat, aliveMs: -Infinity })
  }

  /** Lanes that are not of the aligned inputs, as after a change of the pipeline, are passed over. */
  learn(reports: readonly LaneReport[]): void {
    const nowMs = this.clock.nowMs()
    for (const { lane, watermarkMs, idle, beat } of reports) {
      const known = this.lanes.get(lane)
      if (known === undefined) continue
      // The first beat that is seen may be one of long ago: only the next says that there is an owner.
      const beats = beat !== known.beat && known.beat !== 0
      this.lanes.set(lane, {
        watermarkMs: Math.max(known.watermarkMs, watermarkMs),
        idle,
        beat,
        aliveMs: beats ? nowMs : known.aliveMs,
      })
    }
  }

  /** The lowest watermark of all lanes but `own` and those whose owner lives and says that they are idle. */
  lowestMs(own: ReadonlyMap<string, unknown>): number {
    const aliveSinceMs = this.clock.nowMs() - beatHoldsMs
    let lowMs = Infinity
    for (const [lane, { watermarkMs, idle, aliveMs }] of this.lanes) {
      if (own.has(lane) || (idle && aliveMs >= aliveSinceMs)) continue
      lowMs = Math.min(lowMs, watermarkMs)
    }
    return lowMs
  }
}
