import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { type Admission, noRoom, type NoRoom } from '@spillway/rpc'
import type { HttpFront, Telemetry } from '@spillway/telemetry'
import { expectedBytes, placeFor } from './call-place.ts'
import { CallerSignals } from './caller-signal.ts'
import { type ErrorAnswer, errorAnswer } from './http-errors.ts'
import { answerCall, type ModelCalls, writeAnswer } from './model-call.ts'
import { plainPath, plainType } from './plain-head.ts'

export interface CallFrontOptions {
  readonly calls: readonly ModelCalls[]
  /** Bounds them; those that are left to the app find their place there (`placeInApp`). */
  readonly room: Admission
  readonly logger: Telemetry['logger']
  /** Calls with larger bodies are left to the app. */
  readonly maxBodyBytes: number
}

/**
 * Answers models' calls in the form that nearly all of them have, with a third of the work that the app would have with them. What is written in another way
 * (chunks, compressed bodies, escapes, too large, malformed) is left to the app, which answers the same.
 */
export function callFront({ calls, room, logger, maxBodyBytes }: CallFrontOptions): HttpFront {
  const signals = new CallerSignals()
  // Made once: this is what a refusal costs.
  const protocols = calls.map((protocol) => {
    const refusal = (full: NoRoom): ErrorAnswer => errorAnswer(noRoom(full), {}, { logger, statuses: protocol.statuses })
    return { protocol, refusals: { calls: refusal('calls'), bytes: refusal('bytes') } }
  })
  return (request, response, asks) => {
    const { method, url, headers } = request
    if (method !== 'POST' || !plainPath.test(url!)) return false
    for (const { protocol, refusals } of protocols) {
      const answerer = protocol.find(url!)
      if (answerer === undefined) continue
      const length = plainLength(headers)
      const isPlain = length > 0 && length <= maxBodyBytes
      if (!isPlain && !asks) return false
      const place = placeFor(room, isPlain ? length : expectedBytes(headers, maxBodyBytes))
      if (typeof place === 'string') {
        refuse(response, refusals[place], asks)
        return true
      }
      if (asks) {
        // There is room: the app takes it next, when the client has been told to go on.
        place.release()
        return false
      }
      response.once('close', () => place.release())
      readBody(request, length, (body) => {
        answerCall(answerer, { headers, body, signal: signals.of(request.socket) }).then(
          (answer) => writeAnswer(response, 200, answer),
          (thrown: unknown) => {
            const refused = errorAnswer(thrown, request, { logger, statuses: protocol.statuses })
            writeAnswer(response, refused.status, refused)
          },
        )
      })
      return true
    }
    return false
  }
}

/** Before any of the body is read: what comes of it is thrown away by Node.js, so that the connection can go on. */
function refuse(response: ServerResponse, { status, headers, body }: ErrorAnswer, asks: boolean): void {
  // RFC 9110, 10.1.1: whoever asked before sending a body may send it all the same, or another request.
  writeAnswer(response, status, { headers: asks ? [...headers, 'connection', 'close'] : headers, body })
}

/** The body's length; NaN where there is none, or more has to be known to read it. */
function plainLength(headers: IncomingHttpHeaders): number {
  const type = headers['content-type']
  if (headers['transfer-encoding'] !== undefined || headers['content-encoding'] !== undefined) return Number.NaN
  if (type !== undefined && !plainType.test(type)) return Number.NaN
  return Number(headers['content-length'])
}

/** A body that is cut off is never done: nobody waits for its answer. */
function readBody(request: IncomingMessage, length: number, done: (body: Buffer) => void): void {
  // What came in one packet with the headers is there by then: taking it whole costs a tenth of a small call less than letting it flow.
  process.nextTick(() => {
    const first = request.read() as Buffer | null
    if (first?.length === length) return done(first)
    const parts = first === null ? [] : [first]
    let missing = length - (first?.length ?? 0)
    request.on('data', (part: Buffer) => {
      parts.push(part)
      missing -= part.length
      if (missing === 0) done(Buffer.concat(parts, length))
    })
  })
}
