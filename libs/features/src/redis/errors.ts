import { type Code, MeshError } from '@spillway/core'

/** What a server's refusal is called, by the first word of its error (Redis documentation, "Redis serialization protocol": simple errors). */
const codes: Readonly<Record<string, Code>> = {
  NOAUTH: 'UNAUTHENTICATED',
  WRONGPASS: 'UNAUTHENTICATED',
  NOPERM: 'PERMISSION_DENIED',
  WRONGTYPE: 'FAILED_PRECONDITION',
  MOVED: 'FAILED_PRECONDITION',
  CROSSSLOT: 'FAILED_PRECONDITION',
  OOM: 'RESOURCE_EXHAUSTED',
}

const advice: Readonly<Record<string, string>> = {
  NOAUTH: 'give the password in the url',
  WRONGPASS: 'check the user and the password in the url',
  NOPERM:
    'the user needs INFO, MGET, GET, SET, STRLEN, GETRANGE, APPEND, PEXPIRE, HGET, HSET, HLEN, HGETALL, EVAL and EVALSHA on its keys, and HMGET on those that are looked up',
  WRONGTYPE: 'something else writes keys with this prefix: give the store a prefix of its own',
  MOVED: 'this is a node of a cluster that does not have the keys: give the address of a single primary',
  CROSSSLOT: 'put a hash tag into the prefix, as in spillway:{fraud}:',
  OOM: 'the server is at its maxmemory: give it more',
}

/** The server has lost its data, or other data is in its place; a script's error of ours. */
export const lost = 'SPILLWAYLOST'

/**
 * What went wrong on the way to the server or there. Everything but a refusal that another attempt cannot cure is UNAVAILABLE or RESOURCE_EXHAUSTED.
 * @param address `host:port`: a url may hold a password
 */
export function redisError(thrown: unknown, address: string): MeshError {
  if (thrown instanceof MeshError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  // Not only at the start: the client puts "Ready check failed: " before it, older servers say which line of a script it was.
  const word = Object.keys(codes).find((known) => new RegExp(`\\b${known}\\b`).test(message))
  if (word === undefined) return new MeshError('UNAVAILABLE', `Redis at ${address}: ${message}`, { cause: thrown, isOutage: true })
  return new MeshError(codes[word]!, `Redis at ${address}: ${message}; ${advice[word]}`, { cause: thrown, isOutage: word === 'OOM' })
}

/** A refusal that an operator can mend while the pipeline runs is no reason to give rows up: the slice waits. */
export function whileRunning(error: MeshError): MeshError {
  const ofAllKeys = /\b(NOAUTH|WRONGPASS|NOPERM|MOVED|CROSSSLOT)\b/
  if (error.retryable || !ofAllKeys.test(error.message)) return error
  return new MeshError('UNAVAILABLE', error.message, { cause: error, isOutage: true })
}
