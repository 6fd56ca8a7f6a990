/** How far a group has come on a partition. */
export interface Position {
  /** First offset that is not answered yet. */
  readonly offset: bigint
  /** `ProcessOptions.stamp` of whoever committed it. */
  readonly stamp: string | undefined
  /** `Attempt.keepNote`. */
  readonly note: string | undefined
}

/** What a group has committed at its coordinator. */
export interface GroupPosition extends Position {
  /** Whether a processor of this release committed it, to tell tools what its record says, and not a user or an earlier release. */
  readonly isTold: boolean
}

export interface TakenOver {
  /** Undefined where the group has none: it begins where its options say. */
  readonly position: Position | undefined
  /** It comes from without, and counts once: it must be made the record, and the group be told so, before anything is processed. */
  readonly isGiven: boolean
}

/** Which position a partition is gone on from: the record, unless somebody else has set the group's since. What a coordinator forgets changes nothing. */
export function takenOver(record: Position | undefined, group: GroupPosition | undefined): TakenOver {
  if (group !== undefined && !group.isTold) return { position: group, isGiven: true }
  return { position: record ?? group, isGiven: false }
}
