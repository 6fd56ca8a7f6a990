/**
 * Names in subjects, streams and keys: NATS gives `.`, `*`, `>` and white space a meaning, and a stream is a folder. Everything else than letters,
 * digits, `_` and `-` is written `=XX`, byte by byte of its UTF-8.
 */
export function escapeName(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]/gu, (character) =>
    Array.from(Buffer.from(character), (byte) => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  )
}

export function unescapeName(escaped: string): string {
  return decodeURIComponent(escaped.replaceAll('=', '%'))
}

/** A partition's stream: its sequences, less one, are the partition's offsets. */
export function streamOf(topic: string, partition: number): string {
  return `spillway-${escapeName(topic)}-${partition}`
}

export function subjectOf(topic: string, partition: number): string {
  return `spillway.${escapeName(topic)}.${partition}`
}

/** Key of a group's position in the bucket of positions. */
export function positionKey(group: string, topic: string, partition: number): string {
  return `${escapeName(group)}.${escapeName(topic)}.${partition}`
}

/** Key of what a group's members agree on. Members that read other topics are other members. */
export function groupKey(group: string, topics: readonly string[]): string {
  return [group, ...topics.toSorted()].map(escapeName).join('.')
}

export const topicsBucket = 'spillway-topics'
export const positionsBucket = 'spillway-positions'
export const groupsBucket = 'spillway-groups'
