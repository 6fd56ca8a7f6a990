import type { KV } from '@nats-io/kv'
import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { isConflict, natsError } from './errors.ts'
import { assignedTo, beat, beginLeaving, emptyGroup, give, type GroupState, heldBy, remove, take } from './group-state.ts'
import type { NatsLink } from './link.ts'

export interface GroupMemberOptions {
  /** This member's own, new with each process. */
  readonly id: string
  readonly key: string
  readonly partitions: number
  /** A member whose count stands still for this long is taken for dead by the others. */
  readonly sessionTimeoutMs: number
  /** Partitions are this member's from now on. */
  onTaken(partitions: readonly number[]): void
  /** Partitions that another is to have: to be finished, and then given up by `give`. */
  onWanted(partitions: readonly number[]): void
  /** Partitions that this member has no more: the others took it for dead. */
  onLost(partitions: readonly number[]): void
  onFailure(error: unknown): void
  onSuccess(): void
}

interface Seen {
  readonly beat: number
  readonly sinceMs: number
}

/**
 * This process's place in a group. It reads the group's entry at short intervals and whenever a member says that it has changed it, raises its count,
 * takes what it is to have, and removes members whose count stood still by this process's own clock.
 */
export class GroupMember {
  readonly #link: NatsLink
  readonly #bucket: KV
  readonly #options: GroupMemberOptions
  readonly #stop = new AbortController()
  readonly #joined = Promise.withResolvers<void>()
  readonly #seen = new Map<string, Seen>()
  #held: readonly number[] = []
  #given = new Set<number>()
  #leaving = false
  #turned = Promise.withResolvers<void>()
  #wake: (() => void) | undefined
  #woken = false
  #beatMs = 0
  #running: Promise<void> | undefined

  constructor(link: NatsLink, bucket: KV, options: GroupMemberOptions) {
    this.#link = link
    this.#bucket = bucket
    this.#options = options
  }

  /** Resolves when this process is a member and has taken what was free for it. */
  get joined(): Promise<void> {
    return this.#joined.promise
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** A partition that was wanted is no longer worked on. */
  give(partition: number): void {
    this.#given.add(partition)
    this.#poke()
  }

  /** Looks at the group now; resolves when what it holds is known anew, or it has left. */
  async refresh(): Promise<void> {
    // The turn under way may have read the entry already.
    for (let i = 0; i < 2 && !this.#stop.signal.aborted; i++) {
      this.#poke()
      await this.#turned.promise
    }
  }

  /** Is given no more partitions from now on. */
  beginLeaving(): void {
    this.#leaving = true
    this.#poke()
  }

  /** Leaves: what it held is free at once. A member that cannot say so is missed at the end of its session. */
  async leave(): Promise<void> {
    this.#stop.abort()
    this.#poke()
    await this.#running
    this.#joined.resolve()
    if (this.#running === undefined || !this.#link.connected) return
    await this.#change((state) => (this.#options.id in state.members ? remove(state, [this.#options.id]) : state)).catch((error: unknown) =>
      this.#options.onFailure(error),
    )
  }

  get #subject(): string {
    return `spillway.group.${this.#options.key}`
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    const subscription = this.#link.connection.subscribe(this.#subject, { callback: () => this.#poke() })
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.#turn()
        failures = 0
        this.#options.onSuccess()
        await this.#sleep(Math.min(500, this.#options.sessionTimeoutMs / 8))
      } catch (error) {
        this.#options.onFailure(natsError(error, 'keeping its place in the group'))
        await pause(backoffMs(++failures, 1000), signal)
      }
    }
    this.#turned.resolve()
    subscription.unsubscribe()
  }

  #poke(): void {
    this.#woken = true
    this.#wake?.()
  }

  async #sleep(delayMs: number): Promise<void> {
    if (!this.#woken) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const timer = setTimeout(resolve, delayMs)
      await promise
      clearTimeout(timer)
    }
    this.#wake = undefined
    this.#woken = false
  }

  async #turn(): Promise<void> {
    const { id } = this.#options
    const given = new Set(this.#given)
    const state = await this.#change((found) => this.#next(found, given))
    for (const partition of given) this.#given.delete(partition)
    const held = heldBy(state, id)
    const [before, wanted] = [this.#held, assignedTo(state, id)]
    this.#held = held
    const lost = before.filter((partition) => !held.includes(partition) && !given.has(partition))
    if (lost.length > 0) this.#options.onLost(lost)
    const taken = held.filter((partition) => !before.includes(partition) || given.has(partition))
    if (taken.length > 0) this.#options.onTaken(taken)
    const surplus = held.filter((partition) => !wanted.includes(partition))
    if (surplus.length > 0) this.#options.onWanted(surplus)
    this.#joined.resolve()
    this.#turned.resolve()
    this.#turned = Promise.withResolvers()
  }

  #next(found: GroupState, given: ReadonlySet<number>): GroupState {
    const { id, sessionTimeoutMs } = this.#options
    const dead = this.#dead(found)
    let state = dead.length > 0 ? remove(found, dead) : found
    if (given.size > 0) state = give(state, id, given)
    if (!(id in state.members) || Date.now() - this.#beatMs > sessionTimeoutMs / 5) state = beat(state, id)
    if (this.#leaving) state = beginLeaving(state, id)
    const { partitions } = state
    return partitions.some(({ to, held }) => to === id && held === undefined) ? take(state, id) : state
  }

  /** The others whose count has stood still for too long. */
  #dead({ members }: GroupState): readonly string[] {
    const nowMs = performance.now()
    for (const id of this.#seen.keys()) if (!(id in members)) this.#seen.delete(id)
    return Object.entries(members).flatMap(([id, member]) => {
      const seen = this.#seen.get(id)
      if (seen?.beat !== member.beat) this.#seen.set(id, { beat: member.beat, sinceMs: nowMs })
      return seen?.beat === member.beat && nowMs - seen.sinceMs > this.#options.sessionTimeoutMs && id !== this.#options.id ? [id] : []
    })
  }

  /** Replaces the group's entry by what `next` makes of it, again and again while others are faster; writes nothing where it stays the same. */
  async #change(next: (found: GroupState) => GroupState): Promise<GroupState> {
    const { key, partitions } = this.#options
    for (let attempt = 1; ; attempt++) {
      const entry = await this.#link.request(() => this.#bucket.get(key))
      const found = entry?.operation === 'PUT' ? entry.json<GroupState>() : emptyGroup(partitions)
      if (found.partitions.length !== partitions)
        throw new MeshError('FAILED_PRECONDITION', `group "${key}" has ${found.partitions.length} partitions, expected ${partitions}`)
      const state = next(found)
      if (state === found) return found
      try {
        await this.#link.request(() => this.#bucket.put(key, JSON.stringify(state), { previousSeq: entry?.revision ?? 0 }))
        if (this.#options.id in state.members && state.members[this.#options.id]!.beat !== found.members[this.#options.id]?.beat)
          this.#beatMs = Date.now()
        if (JSON.stringify(state.partitions) !== JSON.stringify(found.partitions)) this.#link.connection.publish(this.#subject)
        return state
      } catch (error) {
        if (!isConflict(error)) throw error
        await pause(Math.random() * backoffMs(attempt, 200), new AbortController().signal)
      }
    }
  }
}
