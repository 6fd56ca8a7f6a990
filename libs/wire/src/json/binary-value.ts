import { MeshError } from '@spillway/core'
import type { JsonCursor } from './json-cursor.ts'

/** RFC 4648's alphabet, or its variant for URLs; padding may be left out. */
const base64Text = /^(?:[A-Za-z\d+/]*|[\w-]*)={0,2}$/

/**
 * Reads `{"b64": "…"}`, an object whose only member is a string of base64: how JSON carries bytes that are no text. Undefined, and nothing read, where
 * another object stands next. @throws MeshError INVALID_ARGUMENT where the string is no base64.
 */
export function binaryValue(cursor: JsonCursor): Uint8Array | undefined {
  const start = cursor.offset
  const found = cursor.attempt(() => onlyMember(cursor))
  if (found === undefined) return undefined
  const digits = found.length - (found.endsWith('==') ? 2 : found.endsWith('=') ? 1 : 0)
  if (!base64Text.test(found) || digits % 4 === 1)
    throw new MeshError('INVALID_ARGUMENT', `the value of "b64" at offset ${start} is no base64`)
  return Buffer.from(found, 'base64')
}

/** The only member's value, where it is called b64 and a string. */
function onlyMember(cursor: JsonCursor): string | undefined {
  if (!cursor.enterObject() || !cursor.atString() || cursor.key() !== 'b64' || !cursor.atString()) return undefined
  const text = cursor.string()
  return cursor.atObjectEnd() && !cursor.nextMember() ? text : undefined
}
