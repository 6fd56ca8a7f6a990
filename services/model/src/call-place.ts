import type { IncomingHttpHeaders } from 'node:http'
import { type Admission, noRoom, type NoRoom, type Place } from '@spillway/rpc'
import type { FastifyReply, FastifyRequest } from 'fastify'

/** Takes a call in before its body is read. @throws MeshError RESOURCE_EXHAUSTED */
export type PlaceInApp = (request: FastifyRequest, reply: FastifyReply) => void

/** What compressed numbers as JSON grow by at most, near enough. */
const compression = 8
/** Of the largest body: what is expected of one that does not say how long it will be. */
const unsaidPart = 16

/** A place with room for so many bytes, or what was full. */
export function placeFor(room: Admission, bytes: number): Place | NoRoom {
  // HTTP has no deadlines.
  const place = room.admit(true)
  if (place === undefined) return 'calls'
  if (place.reserve(bytes)) return place
  place.release()
  return 'bytes'
}

/** Of a body that the app reads, as far as the headers tell: a guess, since to count each as the largest would leave room for a handful. */
export function expectedBytes(headers: IncomingHttpHeaders, maxBodyBytes: number): number {
  if (headers['transfer-encoding'] !== undefined) return Math.ceil(maxBodyBytes / unsaidPart)
  const length = Number(headers['content-length'] ?? 0)
  return Math.min(maxBodyBytes, headers['content-encoding'] === undefined ? length : length * compression)
}

/** Of calls that come in a form for the app alone: escapes or a query in the path, chunks, compressed bodies. */
export function placeInApp(room: Admission, maxBodyBytes: number): PlaceInApp {
  return ({ headers }, { raw }) => {
    const place = placeFor(room, expectedBytes(headers, maxBodyBytes))
    if (typeof place === 'string') throw noRoom(place)
    raw.once('close', () => place.release())
  }
}
