import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { Client, credentials, Metadata, type MethodDefinition } from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer, loadSync } from '@grpc/proto-loader'
import { context, trace } from '@opentelemetry/api'
import { type Component, MeshError } from '@spillway/core'
import { createTelemetry, currentTraceParent, type OwnedTelemetry } from '@spillway/telemetry'
import { descriptorSetFile, inference, predictionV1 } from '@spillway/wire'
import { protoPath } from 'grpc-health-check'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Admission, GrpcChannel, GrpcServer, type RpcCall, serverStreamHandler, unaryHandler } from '../src/mod.ts'

type PredictRequest = predictionV1.PredictRequest
type PredictResponse = predictionV1.PredictResponse
type SubscribeRequest = predictionV1.SubscribeRequest
type SubscribeResponse = predictionV1.SubscribeResponse

const { predict, subscribe } = predictionV1.PredictionService
const request: PredictRequest = { pipeline: 'fraud', events: [] }
const aRecord: SubscribeResponse = {
  position: '',
  partition: 0,
  offset: 0n,
  key: new Uint8Array(0),
  value: new Uint8Array(64 * 1024),
  headers: {},
  timestampMs: 0n,
}

let telemetry: OwnedTelemetry
const open: Component[] = []

beforeAll(() => {
  telemetry = createTelemetry({ service: 'rpc-test', logLevel: 'silent', otlp: false })
})
afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
})
afterAll(() => telemetry.shutdown())

interface Handlers {
  readonly predict?: (request: PredictRequest, call: RpcCall) => Promise<PredictResponse>
  readonly subscribe?: (request: SubscribeRequest, call: RpcCall) => AsyncIterable<SubscribeResponse>
  readonly port?: number
  readonly admission?: Admission
}

function unused(): never {
  throw new MeshError('UNIMPLEMENTED', 'not part of this test')
}

async function startServer(handlers: Handlers): Promise<GrpcServer> {
  const server = new GrpcServer({
    port: handlers.port ?? 0,
    telemetry,
    drainTimeoutMs: 2_000,
    services: [
      {
        definition: predictionV1.PredictionService,
        implementation: {
          predict: unaryHandler(handlers.predict ?? unused),
          subscribe: serverStreamHandler(handlers.subscribe ?? unused),
          publish: unaryHandler(unused),
        },
        ...(handlers.admission && { admissions: { predict: handlers.admission } }),
      },
    ],
  })
  open.push(server)
  await server.start()
  return server
}

async function connect(port: number): Promise<GrpcChannel> {
  const channel = new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry })
  open.push(channel)
  await channel.start()
  return channel
}

async function pair(handlers: Handlers): Promise<{ server: GrpcServer; channel: GrpcChannel }> {
  const server = await startServer(handlers)
  return { server, channel: await connect(server.port) }
}

const rejection = (promise: Promise<unknown>): Promise<MeshError> =>
  promise.then(
    () => expect.unreachable('it should have been refused'),
    (error: unknown) => error as MeshError,
  )

describe('a unary call', () => {
  test('carries request and response', async () => {
    const { channel } = await pair({
      predict: async ({ events }) => ({ results: events.map((prediction) => ({ result: { $case: 'prediction', value: prediction } })) }),
    })
    const response = await channel.unary(predict, { pipeline: 'fraud', events: [Buffer.from('{"a":1}')] })
    expect(response.results[0]!.result).toEqual({ $case: 'prediction', value: Buffer.from('{"a":1}') })
  })

  test('gives the error back with code, message and field', async () => {
    const { channel } = await pair({
      predict: async () => {
        throw new MeshError('INVALID_ARGUMENT', 'größer als 100 % \ud800', { field: 'cascade.tiers[0].größe' })
      },
    })
    const error = await rejection(channel.unary(predict, request))
    expect(error).toBeInstanceOf(MeshError)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: 'größer als 100 % \ufffd', field: 'cascade.tiers[0].größe' })
  })

  test('hides an unexpected error behind INTERNAL', async () => {
    const { channel } = await pair({ predict: () => Promise.reject(new TypeError('secret')) })
    const error = await rejection(channel.unary(predict, request))
    expect(error).toMatchObject({ code: 'INTERNAL', field: undefined })
    expect(error.message).not.toContain('secret')
  })

  test('is refused before its request is read, and gives its place back when it has ended', async () => {
    const held: string[] = []
    let room = false
    let handled = 0
    const { channel } = await pair({
      admission: {
        admit: () => {
          if (!room) return undefined
          held.push('taken')
          return { reserve: () => true, release: () => void held.push('given back') }
        },
      },
      predict: async () => {
        handled++
        return { results: [] }
      },
    })
    const garbled = { ...predict, requestSerialize: () => Buffer.from([0xff, 0xff, 0xff]) }
    expect(await rejection(channel.unary(garbled, request))).toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
    room = true
    expect(await rejection(channel.unary(garbled, request))).toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect.poll(() => held).toEqual(['taken', 'given back'])
    expect(handled).toBe(0)
    await channel.unary(predict, request)
    await expect.poll(() => held.length).toBe(4)
    expect(handled).toBe(1)
  })

  test('is not sent once its deadline is over', async () => {
    let handled = 0
    const { channel } = await pair({
      predict: async () => {
        handled++
        return { results: [] }
      },
    })
    expect(await rejection(channel.unary(predict, request, { deadlineMs: Date.now() - 1 }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    expect(handled).toBe(0)
  })

  test('carries the deadline, and fires the signal of a handler that runs past it', async () => {
    const seen = Promise.withResolvers<{ deadlineMs: number; reason: unknown }>()
    const { channel } = await pair({
      predict: (_request, call) =>
        new Promise(() => {
          call.signal.addEventListener('abort', () => seen.resolve({ deadlineMs: call.deadlineMs, reason: call.signal.reason }))
        }),
    })
    const deadlineMs = Date.now() + 150
    expect(await rejection(channel.unary(predict, request, { deadlineMs }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    const { deadlineMs: seenMs, reason } = await seen.promise
    expect(Math.abs(seenMs - deadlineMs)).toBeLessThan(100)
    expect(reason).toMatchObject({ code: 'CANCELLED' })
  })

  test('has no deadline where none is set, or one beyond what timers hold', async () => {
    const deadlines: number[] = []
    const { channel } = await pair({
      predict: async (_request, call) => {
        deadlines.push(call.deadlineMs)
        expect(call.principal).toBe('')
        return { results: [] }
      },
    })
    await channel.unary(predict, request)
    await channel.unary(predict, request, { deadlineMs: Infinity })
    await channel.unary(predict, request, { deadlineMs: Date.now() + 90 * 86_400_000 })
    expect(deadlines).toEqual([Infinity, Infinity, Infinity])
  })

  test('is cancelled by its signal, on both sides', async () => {
    const entered = Promise.withResolvers<void>()
    const left = Promise.withResolvers<void>()
    const { channel } = await pair({
      predict: (_request, call) =>
        new Promise(() => {
          call.signal.addEventListener('abort', () => left.resolve())
          entered.resolve()
        }),
    })
    const controller = new AbortController()
    const answer = rejection(channel.unary(predict, request, { signal: controller.signal }))
    await entered.promise
    controller.abort()
    expect(await answer).toMatchObject({ code: 'CANCELLED' })
    await left.promise
    expect(await rejection(channel.unary(predict, request, { signal: controller.signal }))).toMatchObject({ code: 'CANCELLED' })
  })

  test('does not fire the signal of a handler that has answered', async () => {
    let signal: AbortSignal | undefined
    const { channel } = await pair({
      predict: async (_request, call) => {
        signal = call.signal
        return { results: [] }
      },
    })
    await channel.unary(predict, request)
    await channel.unary(predict, request)
    expect(signal!.aborted).toBe(false)
  })

  test('carries the trace context and shows it to the handler', async () => {
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const seen: { sent: string; active: string }[] = []
    const { channel } = await pair({
      predict: async (_request, call) => {
        await Promise.resolve()
        seen.push({ sent: call.traceParent, active: currentTraceParent() })
        return { results: [] }
      },
    })
    const parent = trace.setSpanContext(context.active(), { traceId, spanId: 'b7ad6b7169203331', traceFlags: 1 })
    await context.with(parent, () => channel.unary(predict, request))
    await channel.unary(predict, request)
    const header = `00-${traceId}-b7ad6b7169203331-01`
    expect(seen).toEqual([
      { sent: header, active: header },
      { sent: '', active: '' },
    ])
  })

  test('refuses a message over the limit', async () => {
    const { server } = await pair({ predict: async () => ({ results: [] }) })
    const channel = new GrpcChannel({ address: `127.0.0.1:${server.port}`, telemetry, maxMessageBytes: 1_000 })
    open.push(channel)
    const error = await rejection(channel.unary(predict, { pipeline: 'fraud', events: [new Uint8Array(2_000)] }))
    expect(error.code).toBe('RESOURCE_EXHAUSTED')
  })
})

describe('a server stream', () => {
  test('waits for the reader, and lets the handler go when it leaves', async () => {
    let sent = 0
    const returned = Promise.withResolvers<void>()
    const { channel } = await pair({
      async *subscribe() {
        try {
          for (;;) {
            sent++
            yield aRecord
          }
        } finally {
          returned.resolve()
        }
      },
    })
    const stream = channel.serverStream(subscribe, { topic: 't', start: undefined })
    await stream.next()
    // The reader takes no more: what is sent settles at what the windows and queues hold.
    let last = -1
    await vi.waitFor(
      () => {
        const settled = sent === last
        last = sent
        expect(settled).toBe(true)
      },
      { interval: 100, timeout: 5_000 },
    )
    expect(sent).toBeLessThan(200)
    await stream.return(undefined)
    await returned.promise
  })

  test('ends with the status of its handler', async () => {
    const { channel } = await pair({
      async *subscribe() {
        yield aRecord
        throw new MeshError('OUT_OF_RANGE', 'the position was removed', { field: 'after_position' })
      },
    })
    let count = 0
    const read = async (): Promise<void> => {
      for await (const _record of channel.serverStream(subscribe, { topic: 't', start: undefined })) count++
    }
    expect(await rejection(read())).toMatchObject({ code: 'OUT_OF_RANGE', field: 'after_position' })
    expect(count).toBe(1)
  })

  test('is ended by a drain, with UNAVAILABLE', async () => {
    const { server, channel } = await pair({
      async *subscribe(_request, call) {
        yield aRecord
        await new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve(), { once: true }))
      },
    })
    const stream = channel.serverStream(subscribe, { topic: 't', start: undefined })
    await stream.next()
    const end = rejection(stream.next())
    await server.drain()
    expect(await end).toMatchObject({ code: 'UNAVAILABLE' })
  })
})

describe('a channel', () => {
  test('says where nobody listens, and connects once somebody does', async () => {
    const probe = await startServer({})
    const { port } = probe
    await probe.drain()
    const channel = await connect(port)
    const error = await rejection(channel.unary(predict, request))
    expect(error.code).toBe('UNAVAILABLE')
    expect(error.message).toContain(`127.0.0.1:${port}`)
    const ready = channel.waitForReady(new AbortController().signal)
    await startServer({ port, predict: async () => ({ results: [] }) })
    await ready
    expect(await channel.unary(predict, request)).toEqual({ results: [] })
  })

  test('stops waiting when told to', async () => {
    const channel = await connect(9)
    expect(await rejection(channel.waitForReady(AbortSignal.timeout(50)))).toMatchObject({ code: 'CANCELLED' })
  })

  test.each(['nowhere', 'http://host:1', ':80', 'host:'])('refuses the address "%s"', (address) => {
    expect(() => new GrpcChannel({ address, telemetry })).toThrow(/write host:port/)
  })
})

describe('a server', () => {
  test('names the address that is taken', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    const error = await rejection(startServer({ port }))
    expect(error.code).toBe('FAILED_PRECONDITION')
    expect(error.message).toContain(`127.0.0.1:${port}`)
    await new Promise((resolve) => other.close(resolve))
  })

  test('finishes calls in flight when it drains, and drains once', async () => {
    const entered = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const { server, channel } = await pair({
      predict: async () => {
        entered.resolve()
        await go.promise
        return { results: [] }
      },
    })
    const answer = channel.unary(predict, request)
    await entered.promise
    const drained = Promise.all([server.drain(), server.drain()])
    go.resolve()
    expect(await answer).toEqual({ results: [] })
    await drained
    expect(await rejection(channel.unary(predict, request))).toMatchObject({ code: 'UNAVAILABLE' })
  })

  test('is SERVING only once set so', async () => {
    const { server, channel } = await pair({})
    const definition = loadSync(protoPath)['grpc.health.v1.Health'] as unknown as {
      Check: MethodDefinition<{ service: string }, { status: number }>
    }
    const check = (service: string): Promise<{ status: number }> => channel.unary(definition.Check, { service })
    expect(await check('')).toEqual({ status: 2 })
    server.setServing(true)
    expect(await check('')).toEqual({ status: 1 })
    expect(await check('spillway.v1.Prediction')).toEqual({ status: 1 })
    expect(await rejection(check('other'))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('describes its services by reflection', async () => {
    const { server } = await pair({})
    const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure())
    const ask = (query: Buffer): Promise<Buffer> =>
      new Promise((resolve, reject) => {
        const stream = client.makeBidiStreamRequest(
          '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
          (bytes: Buffer) => bytes,
          (bytes: Buffer) => bytes,
          new Metadata(),
        )
        stream.on('data', resolve).on('error', reject)
        stream.write(query)
        stream.end()
      })
    // ServerReflectionRequest: list_services = 7, file_containing_symbol = 4 (grpc/reflection/v1/reflection.proto).
    const listed = await ask(Buffer.from([0x3a, 1, 0x2a]))
    expect(listed.toString('latin1')).toContain('spillway.v1.Prediction')
    expect(listed.toString('latin1')).not.toContain('inference.GRPCInferenceService')
    const symbol = Buffer.from('spillway.v1.Prediction')
    const file = await ask(Buffer.concat([Buffer.from([0x22, symbol.length]), symbol]))
    expect(file.toString('latin1')).toContain('SubscribeRequest')
    client.close()
  })
})

test('the descriptor set holds every service that a process may serve', async () => {
  const set = loadFileDescriptorSetFromBuffer(await readFile(descriptorSetFile))
  expect(Object.keys(set)).toEqual(expect.arrayContaining([inference.GRPCInferenceServiceService.modelInfer.path.split('/')[1]]))
})
