import { type Code, MeshError } from '@spillway/core'
import { JetStreamApiError } from '@nats-io/jetstream'
import { errors } from '@nats-io/transport-node'

/** JetStream's own error codes (nats-server, server/errors.json). */
export const apiCodes: Readonly<Record<'streamNotFound' | 'streamNameInUse' | 'messageTooLarge', number>> = {
  streamNotFound: 10059,
  streamNameInUse: 10058,
  messageTooLarge: 10054,
}

const wrongLastSequence: ReadonlySet<number> = new Set([10071, 10164])

/** Another has written the key since it was read. */
export function isConflict(thrown: unknown): boolean {
  return thrown instanceof JetStreamApiError && wrongLastSequence.has(thrown.code)
}

/** A server that cannot be reached, or whose JetStream is not ready: waiting cures it. */
export function isServerAway(thrown: unknown): boolean {
  for (let next = thrown; next instanceof Error; next = next.cause) {
    if (next instanceof errors.TimeoutError || next instanceof errors.NoRespondersError || next instanceof errors.ConnectionError)
      return true
    if (next instanceof errors.ClosedConnectionError || next instanceof errors.DrainingConnectionError) return true
    if (next instanceof errors.RequestError || next.name === 'JetStreamNotEnabled') return true
    if (next instanceof JetStreamApiError && next.status === 503) return true
    if (/^E[A-Z]+$/.test(String((next as NodeJS.ErrnoException).code))) return true
  }
  return false
}

export function isUnauthorized(thrown: unknown): boolean {
  return thrown instanceof errors.AuthorizationError || thrown instanceof errors.UserAuthenticationExpiredError
}

function codeOf(thrown: unknown): Code {
  if (isUnauthorized(thrown)) return 'UNAUTHENTICATED'
  if (thrown instanceof errors.PermissionViolationError) return 'PERMISSION_DENIED'
  if (!(thrown instanceof JetStreamApiError)) return 'INTERNAL'
  return codeOfApi(thrown.code, thrown.status)
}

/** @param code JetStream's own, @param status as in HTTP */
export function codeOfApi(code: number, status: number): Code {
  if (code === apiCodes.streamNotFound) return 'NOT_FOUND'
  if (code === apiCodes.messageTooLarge) return 'INVALID_ARGUMENT'
  if (status === 503) return 'UNAVAILABLE'
  // 10047 and 10023: no storage or other resource left (server/errors.json); 10077: a stream that is full and drops nothing.
  return code === 10047 || code === 10023 || code === 10077 ? 'RESOURCE_EXHAUSTED' : 'INTERNAL'
}

/** The client's errors as the mesh's; `what` says what was being done. */
export function natsError(thrown: unknown, what: string): MeshError {
  if (thrown instanceof MeshError) return thrown
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  if (isServerAway(thrown)) return new MeshError('UNAVAILABLE', `${what}: the NATS server is away (${text})`, { cause: thrown })
  return new MeshError(codeOf(thrown), `${what}: ${text}`, { cause: thrown })
}
