import { backoffMs, pause } from '../backoff.ts'
import type { Reachability } from '../reachability.ts'
import { asksToComeAgain, isMembershipLost } from './errors.ts'
import type { Assignment, GroupMember } from './group-member.ts'

export interface MembershipLoopOptions {
  readonly member: GroupMember
  readonly broker: Reachability
  /** What is this process's now. */
  readonly owned: () => readonly number[]
  /** From now on it owns this, and nothing else. */
  readonly own: (assignment: Assignment) => void
  /** Tells the group how far its partitions are. Does not throw. */
  readonly tell: () => Promise<void>
  /** A member that is draining has no use for a new assignment; the others wait for it no longer than its grace. */
  readonly isDraining: () => boolean
}

export const heartbeatIntervalMs = 500
export const beatsPerTelling = 2
const backoffLimitMs = 2000

/** Stays in the group until stopped: joins, beats, joins again when the group asks, starts over when it was forgotten. */
export class MembershipLoop {
  readonly #options: MembershipLoopOptions
  readonly #stop = new AbortController()
  /** Fires when the group is to be asked at once what is ours. */
  #hurry = new AbortController()
  #confirming: PromiseWithResolvers<void> | undefined
  #telling: Promise<void> | undefined
  #running: Promise<void> | undefined

  constructor(options: MembershipLoopOptions) {
    this.#options = options
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** Resolves when nothing is asked of the group any more. It stays a member. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
    await this.#telling
  }

  /** Resolves when the group has been asked, or has told, what is this process's: what is not has been given up then. */
  confirm(): Promise<void> {
    this.#confirming ??= Promise.withResolvers()
    this.#hurry.abort()
    return this.#confirming.promise
  }

  #confirmed(): void {
    this.#confirming?.resolve()
    this.#confirming = undefined
  }

  async #run(): Promise<void> {
    const { member, broker, own } = this.#options
    const { signal } = this.#stop
    for (let failures = 0; !signal.aborted;) {
      try {
        if (!this.#options.isDraining()) await this.#join()
        broker.back()
        failures = 0
        await this.#beat()
      } catch (error) {
        if (isMembershipLost(error)) {
          own({ partitions: [], moving: [] })
          member.forget()
        } else {
          // A coordinator that has just got the group's partition reads it first: that is no outage yet.
          if (failures > 5 || !asksToComeAgain(error)) broker.away(error)
          await pause(backoffMs(++failures, backoffLimitMs), signal)
        }
      }
    }
  }

  async #join(): Promise<void> {
    const { member, owned, own, tell, isDraining } = this.#options
    // Once it has joined, what it had may be another's to tell of.
    await tell()
    const assignment = await member.join(owned())
    // Drained meanwhile: nobody would end the work that was begun now.
    if (!isDraining()) own(assignment)
    this.#confirmed()
  }

  /** Until the group rebalances, or it stops. */
  async #beat(): Promise<void> {
    const { member, broker, tell, isDraining } = this.#options
    for (let beats = 1; ; beats++) {
      await pause(heartbeatIntervalMs, AbortSignal.any([this.#stop.signal, this.#hurry.signal]))
      if (this.#stop.signal.aborted) return
      const isAsked = this.#hurry.signal.aborted
      if (isAsked) this.#hurry = new AbortController()
      if (beats % beatsPerTelling === 0) this.#telling ??= tell().finally(() => (this.#telling = undefined))
      if ((await member.heartbeat()) === 'rebalancing' && !isDraining()) return
      if (isAsked) this.#confirmed()
      broker.back()
    }
  }
}
