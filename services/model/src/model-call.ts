import { isAscii } from 'node:buffer'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type { Code } from '@spillway/core'
import { inCallersTrace } from '@spillway/telemetry'
import { acceptedEncoding, compress } from './content-encoding.ts'

/** A call of a model by HTTP, its body read. */
export interface ModelCall {
  readonly headers: IncomingHttpHeaders
  /** Decompressed; empty where there was none. */
  readonly body: Buffer
  /** Fires when the caller is gone. */
  readonly signal: AbortSignal
}

export interface Answer {
  /** Names and values, one after the other. */
  readonly headers: readonly string[]
  readonly body: Uint8Array
}

/** @throws MeshError why the call is refused */
export type Answerer = (call: ModelCall) => Promise<Answer>

/** The calls of one protocol. */
export interface ModelCalls {
  /** Who answers a POST to the path, which has no query and no escapes; undefined where it is no call, or a rare form of one. */
  find(path: string): Answerer | undefined
  /** Where its errors have other statuses than google/rpc/code.proto says. */
  readonly statuses: Partial<Readonly<Record<Code, number>>>
}

/** Longer answers are sent as the bytes that they are. */
export const mostTextBytes = 8192

/** The answer, as a part of its caller's trace, compressed where the caller takes that and it is worth it. */
export async function answerCall(answerer: Answerer, call: ModelCall): Promise<Answer> {
  const answer = await inCallersTrace(call.headers, () => answerer(call))
  const accepted = call.headers['accept-encoding']
  if (accepted === undefined) return answer
  const encoding = acceptedEncoding(accepted, answer.body.byteLength)
  if (encoding === undefined) return answer
  const headers = [...answer.headers, 'content-encoding', encoding, 'vary', 'accept-encoding']
  return { headers, body: await compress(answer.body, encoding) }
}

export function writeAnswer(response: ServerResponse, status: number, { headers, body }: Answer): void {
  response.writeHead(status, [...headers, 'content-length', String(body.byteLength)])
  // Node.js writes a text in one piece with the headers, where bytes are a second one.
  if (body.byteLength <= mostTextBytes && isAscii(body))
    response.end(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('latin1'), 'latin1')
  else response.end(body)
}
