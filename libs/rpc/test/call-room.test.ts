import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { CallRoom, GrpcChannel, GrpcServer, type NoRoom, serverStreamHandler, unaryHandler } from '../src/mod.ts'

const { PredictionService } = predictionV1

function room(maxCalls: number, maxBytes = 1000): { room: CallRoom; refused: NoRoom[] } {
  const refused: NoRoom[] = []
  return { room: new CallRoom({ maxCalls, maxBytes, refused: (reason) => void refused.push(reason) }), refused }
}

it('takes as many calls as there may be, and bytes as long as they fit', () => {
  const { room: calls, refused } = room(2)
  const first = calls.admit()!
  const second = calls.admit()!
  expect(calls.admit()).toBeUndefined()
  expect(first.reserve(900)).toBe(true)
  expect(second.reserve(101)).toBe(false)
  expect(refused).toEqual(['calls', 'bytes'])
  first.release()
  first.release()
  expect({ calls: calls.inFlight, bytes: calls.bytesInFlight }).toEqual({ calls: 1, bytes: 0 })
  // Larger than all of the room, but alone.
  expect(second.reserve(5000)).toBe(true)
  expect(calls.admit()!.reserve(1)).toBe(false)
})

it('counts a compressed request by what it may well become, not by the most that is allowed', () => {
  const { room: calls } = room(3)
  expect(calls.admit()!.reserve(10_000, 50)).toBe(true)
  expect(calls.bytesInFlight).toBe(400)
  expect(calls.admit()!.reserve(500, 100)).toBe(true)
  expect(calls.bytesInFlight).toBe(900)
})

it('takes 512 calls with a deadline until more were answered in time, and as many as there may be of those that wait', () => {
  const { room: calls } = room(600)
  const places = Array.from({ length: 512 }, () => calls.admit()!)
  expect(calls.admit()).toBeUndefined()
  expect(Array.from({ length: 88 }, () => calls.admit(true)).every((place) => place !== undefined)).toBe(true)
  expect(calls.admit(true)).toBeUndefined()
  for (let i = 0; i < 2; i++) for (const place of places) place.answered!(900, 1000)
  expect(calls.limit).toBe(513)
})

it('takes fewer while answers are too late, not by those who give next to no time', () => {
  const { room: calls } = room(256)
  const answer = (leftMs: number, givenMs: number): void => {
    for (let i = 0; i < 64; i++) {
      const place = calls.admit()!
      place.answered!(leftMs, givenMs)
      place.release()
    }
  }
  answer(150, 200)
  answer(0, 20)
  expect(calls.limit).toBe(256)
  answer(55, 200)
  expect(calls.limit).toBe(256)
  // A quarter of the time is the way's, and theirs who wait longer than most.
  answer(45, 200)
  expect(calls.limit).toBe(16)
  const taken = Array.from({ length: 16 }, () => calls.admit()!)
  expect(taken.every((place) => place !== undefined)).toBe(true)
  expect(calls.admit()).toBeUndefined()
  // Who sets no deadline cannot be answered too late.
  expect(calls.admit(true)).toBeDefined()
})

it('learns from calls whose deadline passes', async () => {
  const telemetry = createTelemetry({ service: 'room-test', logLevel: 'silent', otlp: false })
  const { room: admission } = room(256, 2 ** 20)
  let stuck = true
  const server = new GrpcServer({
    port: 0,
    telemetry,
    services: [
      {
        definition: PredictionService,
        implementation: {
          predict: unaryHandler(() => (stuck ? new Promise<never>(() => undefined) : Promise.resolve({ results: [] }))),
          publish: unaryHandler(async () => ({ positions: [] })),
          subscribe: serverStreamHandler(() => [] as never),
        },
        admissions: { predict: admission },
      },
    ],
  })
  await server.start()
  const channel = new GrpcChannel({ address: `127.0.0.1:${server.port}`, telemetry })
  onTestFinished(async () => {
    await channel.drain()
    await server.drain()
    await telemetry.shutdown()
  })
  const request = { pipeline: 'fraud', events: [] }
  const late = Array.from({ length: 40 }, () => channel.unary(PredictionService.predict, request, { deadlineMs: Date.now() + 1000 }))
  const codes = (await Promise.allSettled(late)).map((call) => (call.status === 'rejected' ? (call.reason as { code: string }).code : 'OK'))
  expect(new Set(codes)).toEqual(new Set(['DEADLINE_EXCEEDED']))
  await expect.poll(() => admission.inFlight).toBe(0)
  expect(admission.limit).toBeLessThan(256)
  stuck = false
  await channel.unary(PredictionService.predict, request, { deadlineMs: Date.now() + 60_000 })
})
