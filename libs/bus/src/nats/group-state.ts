import { assignPartitions } from '../assignment.ts'

/** What the members of a group agree on: one entry of a bucket, which each replaces only where nobody else has since it read it. */
export interface GroupState {
  /** By id: a count that the member raises to say that it lives. One that is leaving is given no partition. */
  readonly members: Readonly<Record<string, { readonly beat: number; readonly leaving?: true }>>
  /** By partition: who is to have it, and who has it. The one takes it when the other has given it up, or is no longer a member. */
  readonly partitions: readonly { readonly to?: string; readonly held?: string }[]
}

export function emptyGroup(partitions: number): GroupState {
  return { members: {}, partitions: Array.from({ length: partitions }, () => ({})) }
}

/** Divides the partitions among those who stay; who is not a member holds none. */
function assigned(state: GroupState): GroupState {
  const { members } = state
  const staying = Object.keys(members).filter((id) => members[id]!.leaving !== true)
  const kept = state.partitions.map(({ to, held }) => ({
    to: to !== undefined && staying.includes(to) ? to : undefined,
    held: held !== undefined && held in members ? held : undefined,
  }))
  const owners = staying.map((memberId) => ({
    memberId,
    owned: kept.flatMap(({ to, held }, partition) => ((to ?? held) === memberId ? [partition] : [])),
  }))
  const wanted = new Array<string | undefined>(kept.length).fill(undefined)
  if (owners.length > 0)
    for (const [memberId, partitions] of assignPartitions(kept.length, owners))
      for (const partition of partitions) wanted[partition] = memberId
  return {
    members,
    partitions: kept.map(({ held }, partition) => ({
      ...(wanted[partition] !== undefined && { to: wanted[partition] }),
      ...(held !== undefined && { held }),
    })),
  }
}

/** The member lives; one that is new gets its share. */
export function beat(state: GroupState, id: string): GroupState {
  const member = state.members[id]
  const members = { ...state.members, [id]: { ...member, beat: (member?.beat ?? 0) + 1 } }
  return member === undefined ? assigned({ ...state, members }) : { ...state, members }
}

/** The member takes what it is to have and nobody holds. */
export function take(state: GroupState, id: string): GroupState {
  return {
    ...state,
    partitions: state.partitions.map((partition) =>
      partition.to === id && partition.held === undefined ? { to: id, held: id } : partition,
    ),
  }
}

/** The member gives partitions up. */
export function give(state: GroupState, id: string, given: ReadonlySet<number>): GroupState {
  return {
    ...state,
    partitions: state.partitions.map(({ to, held }, partition) => ({
      ...(to !== undefined && { to }),
      ...(held !== undefined && !(held === id && given.has(partition)) && { held }),
    })),
  }
}

/** The member finishes what it holds and takes no more. */
export function beginLeaving(state: GroupState, id: string): GroupState {
  const member = state.members[id]
  if (member === undefined || member.leaving === true) return state
  return assigned({ ...state, members: { ...state.members, [id]: { ...member, leaving: true } } })
}

/** Members that left or died: what they held is free. */
export function remove(state: GroupState, ids: readonly string[]): GroupState {
  const members = Object.fromEntries(Object.entries(state.members).filter(([id]) => !ids.includes(id)))
  return assigned({ ...state, members })
}

export function heldBy({ partitions }: GroupState, id: string): readonly number[] {
  return partitions.flatMap(({ held }, partition) => (held === id ? [partition] : []))
}

export function assignedTo({ partitions }: GroupState, id: string): readonly number[] {
  return partitions.flatMap(({ to }, partition) => (to === id ? [partition] : []))
}
