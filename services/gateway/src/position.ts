import { MeshError } from '@spillway/core'

const version = 1
const longestToken = 16_384

/**
 * A place in a topic, as clients keep it: base64url of a version byte, two bytes that tell topics apart, and each partition's next
 * offset (0, 1, …) as an unsigned LEB128 number. Opaque to clients.
 */
export function encodePosition(topic: string, nextOffsets: readonly number[]): string {
  const bytes = [version, topicTag(topic) >> 8, topicTag(topic) & 0xff]
  for (const offset of nextOffsets) {
    let left = offset
    while (left >= 0x80) {
      bytes.push((left % 0x80) + 0x80)
      left = Math.floor(left / 0x80)
    }
    bytes.push(left)
  }
  return Buffer.from(bytes).toString('base64url')
}

/** Each partition's next offset. @throws MeshError INVALID_ARGUMENT where the text is no position of this topic. */
export function decodePosition(topic: string, token: string, field: string): number[] {
  const refuse = (why: string): MeshError =>
    new MeshError('INVALID_ARGUMENT', `"${token.slice(0, 64)}" ${why}: give a position as the stream gave it`, { field })
  if (token.length > longestToken || !/^[\w-]+$/.test(token)) throw refuse('is no position')
  const bytes = Buffer.from(token, 'base64url')
  if (bytes[0] !== version || bytes.length < 4) throw refuse('is no position')
  if (bytes.readUInt16BE(1) !== topicTag(topic)) throw refuse(`is a position of another topic than ${topic}`)
  const offsets: number[] = []
  for (let at = 3; at < bytes.length; at++) {
    let value = 0
    let scale = 1
    for (; bytes[at]! >= 0x80; scale *= 0x80) value += (bytes[at++]! - 0x80) * scale
    if (at >= bytes.length) throw refuse('is cut off')
    value += bytes[at]! * scale
    if (!Number.isSafeInteger(value)) throw refuse('names an impossible offset')
    offsets.push(value)
  }
  return offsets
}

/** FNV-1a of the name, folded to 16 bits. */
function topicTag(topic: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < topic.length; i++) hash = Math.imul(hash ^ topic.charCodeAt(i), 0x01000193)
  return ((hash >>> 16) ^ hash) & 0xffff
}
