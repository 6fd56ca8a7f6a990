import { type ClientHttp2Session, connect, constants } from 'node:http2'
import type { Call } from './serving-calls.ts'

export interface Answer {
  /** gRPC's status or HTTP's; `lost` where none came. */
  readonly outcome: string
  readonly body: Buffer
}

export interface Caller {
  call(done: (answer: Answer) => void): void
  close(): Promise<void>
}

const nothing: Buffer = Buffer.alloc(0)
const lost: Answer = { outcome: 'lost', body: nothing }

/** Unary calls over one HTTP/2 connection, with as little around them as may be: what a gRPC library adds would be measured with the server. */
export async function grpcCaller(port: number, { path, headers, body }: Call, deadlineMs: number | undefined): Promise<Caller> {
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 2 ** 20 }, peerMaxConcurrentStreams: 2 ** 20 })
  await new Promise<void>((resolve, reject) => session.once('remoteSettings', () => resolve()).once('error', reject))
  session.on('error', () => undefined)
  const frame = Buffer.alloc(5 + body.length)
  frame.writeUInt32BE(body.length, 1)
  body.copy(frame, 5)
  const sent = {
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(deadlineMs === undefined ? {} : { 'grpc-timeout': `${deadlineMs}m` }),
    ...headers,
  }
  return { call: (done) => unary(session, sent, frame, done), close: () => closed(session) }
}

function unary(session: ClientHttp2Session, headers: Record<string, string>, frame: Buffer, done: (answer: Answer) => void): void {
  if (session.destroyed) return void setImmediate(done, lost)
  const stream = session.request(headers)
  let status: string | undefined
  let body = nothing
  // Where there is no message the status comes with the headers.
  const told = (got: Readonly<Record<string, unknown>>): void => {
    const found = got['grpc-status']
    if (typeof found === 'string') status = found
  }
  stream.on('response', told)
  stream.on('trailers', told)
  stream.on('data', (part: Buffer) => (body = body.length === 0 ? part : Buffer.concat([body, part])))
  stream.on('error', () => undefined)
  stream.once('close', () => done(status === undefined ? lost : { outcome: status, body: body.subarray(5) }))
  stream.end(frame)
}

async function closed(session: ClientHttp2Session): Promise<void> {
  if (session.destroyed) return
  await new Promise<void>((resolve) => {
    session.once('close', resolve)
    session.close()
    setTimeout(() => session.destroy(), 2_000).unref()
  })
}
