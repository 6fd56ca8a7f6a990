import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, onTestFinished } from 'vitest'
import { GrpcServer, type RpcCall, serverStreamHandler, unaryHandler } from '../../src/mod.ts'
import { type Answer, RawClient } from './raw-client.ts'
import { type ErrorCode, errorCodes, type Field, fieldBlock, frameType, headers, lastData, type Setting } from './raw-frames.ts'

const { PredictionService, PredictRequest, PredictResponse } = predictionV1

export type Predict = (request: predictionV1.PredictRequest, call: RpcCall) => Promise<predictionV1.PredictResponse>

export type Subscribe = (request: predictionV1.SubscribeRequest, call: RpcCall) => AsyncIterable<predictionV1.SubscribeResponse>

async function* none(): AsyncGenerator<never> {
  // A subscription that ends at once.
}

/** As many results as events came. */
export const echo: Predict = async ({ events }) => ({ results: events.map((value) => ({ result: { $case: 'prediction', value } })) })

interface WaitingCalls {
  readonly predict: Predict
  /** How many wait. */
  readonly waiting: () => number
}

/** Calls of the event `wait` wait until they are given up; others are answered. */
export function waitingCalls(): WaitingCalls {
  let waiting = 0
  const predict: Predict = (request, call) => {
    if (String(request.events[0]) !== 'wait') return echo(request, call)
    return new Promise((resolve) => {
      waiting++
      call.signal.addEventListener('abort', () => {
        waiting--
        resolve({ results: [] })
      })
    })
  }
  return { predict, waiting: () => waiting }
}

interface HeldCalls {
  readonly predict: Predict
  /** The first call has come. */
  readonly entered: Promise<void>
  readonly release: () => void
}

/** Calls that are answered once they are let go. */
export function heldCalls(): HeldCalls {
  const entered = Promise.withResolvers<void>()
  const release = Promise.withResolvers<void>()
  const predict: Predict = async (request, call) => {
    entered.resolve()
    await release.promise
    return echo(request, call)
  }
  return { predict, entered: entered.promise, release: release.resolve }
}

interface Serving {
  readonly subscribe?: Subscribe
  readonly drainTimeoutMs?: number
}

/** A server of the prediction service, which is drained when the test is over. */
export async function serve(predict: Predict = echo, { subscribe = none, drainTimeoutMs = 10_000 }: Serving = {}): Promise<GrpcServer> {
  const telemetry = createTelemetry({ service: 'http2-test', logLevel: 'silent', otlp: false })
  const server = new GrpcServer({
    port: 0,
    telemetry,
    drainTimeoutMs,
    services: [
      {
        definition: PredictionService,
        implementation: {
          predict: unaryHandler(predict),
          publish: unaryHandler(async () => ({ positions: [] })),
          subscribe: serverStreamHandler(subscribe),
        },
      },
    ],
  })
  await server.start()
  onTestFinished(async () => {
    await server.drain()
    await telemetry.shutdown()
  })
  return server
}

/** A connection on which nothing has been said. */
export async function connectTo({ port }: GrpcServer): Promise<RawClient> {
  const client = await RawClient.connect(port)
  onTestFinished(() => client.destroy())
  return client
}

/** A connection whose settings are agreed on. */
export async function greet(server: GrpcServer, ...entries: readonly Setting[]): Promise<RawClient> {
  const client = await connectTo(server)
  await client.greet(...entries)
  return client
}

/** The header fields of a call of Predict. */
export const callFields: readonly Field[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', PredictionService.predict.path],
  [':authority', '127.0.0.1'],
  ['content-type', 'application/grpc'],
  ['te', 'trailers'],
]

/** The header fields of a call of another method, and others besides. */
export function fieldsOf(path: string, ...more: readonly Field[]): readonly Field[] {
  return [...callFields.map(([name, value]): Field => [name, name === ':path' ? path : value]), ...more]
}

export const callBlock: Buffer = fieldBlock(callFields)

/** A length-prefixed message of a call of Predict. */
export function message(...events: readonly (string | Uint8Array)[]): Buffer {
  return prefixed(PredictRequest.encode({ pipeline: 'fraud', events: events.map((event) => Buffer.from(event)) }).finish())
}

/** gRPC over HTTP2, "Length-Prefixed-Message". */
export function prefixed(bytes: Uint8Array, compressed = 0): Buffer {
  const prefix = Buffer.alloc(5)
  prefix[0] = compressed
  prefix.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([prefix, bytes])
}

/** All frames of a small call of Predict. */
export function call(streamId: number, event = `event of ${streamId}`): Buffer {
  return Buffer.concat([headers(streamId, callBlock), lastData(streamId, message(event))])
}

/** What `echo` sent back. */
export function eventsOf({ body }: Answer): readonly string[] {
  expect(body.length).toBeGreaterThanOrEqual(5)
  expect(body.readUInt32BE(1)).toBe(body.length - 5)
  return PredictResponse.decode(body.subarray(5)).results.map(({ result }) =>
    result?.$case === 'prediction' ? Buffer.from(result.value).toString() : 'failure',
  )
}

export async function expectEcho(client: RawClient, streamId: number, event = `event of ${streamId}`): Promise<void> {
  const answer = await client.answer(streamId)
  expect(answer).toMatchObject({ headers: { ':status': '200' }, trailers: { 'grpc-status': '0' }, resetCode: undefined })
  expect(eventsOf(answer)).toEqual([event])
}

/** The server takes a call on the connection. */
export async function expectAlive(client: RawClient, streamId: number): Promise<void> {
  client.send(call(streamId))
  await expectEcho(client, streamId)
}

/** The server serves others. */
export async function expectServing(server: GrpcServer): Promise<void> {
  const client = await greet(server)
  await expectAlive(client, 1)
  client.destroy()
}

/** Whether the server took no more of a client's bytes while it served others 20 calls. */
export async function isHeldBack(server: GrpcServer, taken: Promise<void>): Promise<boolean> {
  const sending = { pending: true }
  void taken.then(() => (sending.pending = false))
  for (let calls = 0; calls < 20 && sending.pending; calls++) await expectServing(server)
  return sending.pending
}

export function goawayOf(client: RawClient): ErrorCode | undefined {
  const last = client.frames.findLast(({ type }) => type === frameType.goaway)
  return last === undefined ? undefined : errorCodes[last.payload.readUInt32BE(4)]
}

/** RFC 9113, section 5.4.1: GOAWAY says why, then the connection is closed. */
export async function expectConnectionError(client: RawClient, codes: readonly ErrorCode[]): Promise<void> {
  await client.closed()
  expect(codes).toContain(goawayOf(client))
}

/** RFC 9113, section 5.4.2: RST_STREAM says why and the connection goes on, or (section 5.4.1) all is taken as an error of the connection. */
export async function expectStreamError(client: RawClient, streamId: number, codes: readonly ErrorCode[]): Promise<void> {
  const resets = (): readonly (ErrorCode | undefined)[] =>
    client.framesOf(streamId, frameType.rstStream).map(({ payload }) => errorCodes[payload.readUInt32BE(0)])
  await client.until(`an error of stream ${streamId}`, () => resets().length > 0 || client.isClosed)
  const [reset] = resets()
  if (reset === undefined) return expectConnectionError(client, codes)
  expect(codes).toContain(reset)
  await client.roundTrip()
}
