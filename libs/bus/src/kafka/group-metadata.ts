import type { GroupPosition, Position } from './position.ts'

const toldMark = 'spillway-told\n'
const stampPrefix = 'spillway-stamp:'
const notePrefix = '\nspillway-note:'

/** What lies beside the offset that a group is told (Kafka protocol, OffsetCommit: committed_metadata): our mark, then the stamp. */
export function encodeMetadata(stamp: string | undefined): string {
  return toldMark + (stamp === undefined ? '' : stampPrefix + stamp)
}

/** Earlier releases committed the stamp and a note without the mark, and meant it; other tools keep words of their own there, which are neither. */
export function decodeMetadata(metadata: string | null | undefined): Pick<GroupPosition, 'isTold'> & Omit<Position, 'offset'> {
  const text = metadata ?? ''
  const isTold = text.startsWith(toldMark)
  const rest = isTold ? text.slice(toldMark.length) : text
  const noteAt = rest.lastIndexOf(notePrefix)
  const head = noteAt < 0 ? rest : rest.slice(0, noteAt)
  return {
    isTold,
    stamp: head.startsWith(stampPrefix) ? head.slice(stampPrefix.length) : undefined,
    note: noteAt < 0 ? undefined : rest.slice(noteAt + notePrefix.length),
  }
}
