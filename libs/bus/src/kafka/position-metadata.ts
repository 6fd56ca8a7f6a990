/** What is committed beside a position's offset (Kafka protocol, TxnOffsetCommit: committed_metadata). */
export interface PositionMetadata {
  readonly stamp: string | undefined
  readonly note: string | undefined
}

const stampPrefix = 'spillway-stamp:'
const notePrefix = '\nspillway-note:'

/** The stamp, then the note: each behind its prefix, where it is. */
export function encodeMetadata({ stamp, note }: PositionMetadata): string {
  return (stamp === undefined ? '' : stampPrefix + stamp) + (note === undefined ? '' : notePrefix + note)
}

/** Other tools keep words of their own there: they are neither. */
export function decodeMetadata(metadata: string | null | undefined): PositionMetadata {
  const text = metadata ?? ''
  const noteAt = text.lastIndexOf(notePrefix)
  const head = noteAt < 0 ? text : text.slice(0, noteAt)
  return {
    stamp: head.startsWith(stampPrefix) ? head.slice(stampPrefix.length) : undefined,
    note: noteAt < 0 ? undefined : text.slice(noteAt + notePrefix.length),
  }
}
