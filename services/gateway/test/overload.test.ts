import { setTimeout as wait } from 'node:timers/promises'
import { MeshError } from '@spillway/core'
import type { GatewayPipeline, PredictCall, PredictResult } from '@spillway/mesh'
import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { startGateway } from './fixture.ts'

const servedPerS = 40
const serviceMs = 1000 / servedPerS

/** Serves one call after the other, so many a second, as a model would that is the bottleneck. */
function bottleneck(pipeline: GatewayPipeline): GatewayPipeline & { readonly mostWaiting: number } {
  const line: (() => void)[] = []
  let mostWaiting = 0
  // By the timetable: a timer that comes late does not make it slower.
  const serve = async (): Promise<void> => {
    for (let dueMs = performance.now(); line.length > 0; line.shift()!()) {
      dueMs += serviceMs
      await wait(Math.max(0, dueMs - performance.now()))
    }
  }
  return {
    name: pipeline.name,
    topics: pipeline.topics,
    inputTopics: pipeline.inputTopics,
    deadLetters: pipeline.deadLetters,
    keyOf: () => undefined,
    predict: async (events: readonly Uint8Array[], call: PredictCall): Promise<readonly PredictResult[]> => {
      const served = new Promise<void>((resolve) => line.push(resolve))
      mostWaiting = Math.max(mostWaiting, line.length)
      if (line.length === 1) void serve()
      await served
      if (call.signal.aborted) throw call.signal.reason
      return events.map(() => ({ prediction: Buffer.from('{"score":0}') }))
    },
    get mostWaiting() {
      return mostWaiting
    },
  }
}

interface Answered {
  /** Of the load, when it was called. */
  readonly atMs: number
  readonly tookMs: number
  readonly code: string
}

type Call = (deadlineMs: number) => Promise<string>

/** Calls by gRPC over one connection; resolves to what became of each. */
async function caller(grpcPort: number): Promise<Call> {
  const telemetry = createTelemetry({ service: 'callers', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: `127.0.0.1:${grpcPort}`, telemetry })
  await channel.start()
  onTestFinished(async () => {
    await channel.drain()
    await telemetry.shutdown()
  })
  const request = { pipeline: 'fraud', events: [Buffer.from('{}')] }
  return (deadlineMs) =>
    channel.unary(predictionV1.PredictionService.predict, request, { deadlineMs: Date.now() + deadlineMs }).then(
      () => 'OK',
      (error: unknown) => MeshError.from(error).code,
    )
}

/** Calls twice as often as the bottleneck can serve. */
async function overload(grpcPort: number, seconds: number, deadlineMs: number): Promise<readonly Answered[]> {
  const made = await caller(grpcPort)
  let startMs = performance.now()
  const call = async (): Promise<Answered> => {
    const calledMs = performance.now()
    const code = await made(deadlineMs)
    return { atMs: calledMs - startMs, tookMs: performance.now() - calledMs, code }
  }
  // The connection, and what is compiled at the first calls, are not what is tried here.
  for (let i = 0; i < 20; i++) await call()
  startMs = performance.now()
  const calls: Promise<Answered>[] = []
  const total = 2 * servedPerS * seconds
  while (calls.length < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * 2 * servedPerS) + 1)
    while (calls.length < due) calls.push(call())
    await wait(2)
  }
  return Promise.all(calls)
}

it('at twice what it can serve answers what it admits in time, refuses the rest at once, and holds no more than it may', async () => {
  const { pipeline: amounts } = await startGateway()
  const pipeline = bottleneck(amounts)
  const maxCallsInFlight = 40
  const { gateway, metric } = await startGateway({ pipelines: [pipeline], maxCallsInFlight })
  // Without refusals the last calls would wait for 5 s.
  const deadlineMs = 3000
  const answers = await overload(gateway.grpcPort, 5, deadlineMs)
  const admitted = answers.filter(({ code }) => code === 'OK').map(({ tookMs }) => tookMs)
  const p99Ms = admitted.sort((a, b) => a - b)[Math.floor(admitted.length * 0.99)]!
  expect(p99Ms).toBeLessThan(deadlineMs)
  expect(admitted.length).toBeGreaterThanOrEqual(maxCallsInFlight)
  const refused = answers.filter(({ code }) => code === 'RESOURCE_EXHAUSTED').length
  expect(refused).toBeGreaterThan(0)
  // But for those that stood still with the whole machine, which callers and gateway share.
  expect(answers.length - admitted.length - refused).toBeLessThan(answers.length / 10)
  expect(pipeline.mostWaiting).toBeLessThanOrEqual(maxCallsInFlight)
  expect(await metric('spillway_gateway_refused_calls_total{reason="calls"}')).toBeGreaterThanOrEqual(refused)
  await expect.poll(() => metric('spillway_gateway_calls_in_flight')).toBe(0)
})

it('finds out how many calls it can answer in time, where it may take more', async () => {
  const { pipeline: amounts } = await startGateway()
  const { gateway, metric } = await startGateway({ pipelines: [bottleneck(amounts)] })
  const answers = await overload(gateway.grpcPort, 12, 1500)
  expect(await metric('spillway_gateway_calls_limit')).toBeLessThan(100)
  // With all 512 places in use none would be answered: each would wait until its time is over.
  const last = answers.filter(({ atMs }) => atMs > 8000)
  const answered = last.filter(({ code }) => code === 'OK').length
  expect(answered).toBeGreaterThan(last.filter(({ code }) => code === 'DEADLINE_EXCEEDED').length)
})

it('refuses every call beyond its room at once, however many come over one connection', async () => {
  const { pipeline } = await startGateway()
  const held = Promise.withResolvers<void>()
  const holding: GatewayPipeline = {
    name: pipeline.name,
    topics: pipeline.topics,
    inputTopics: pipeline.inputTopics,
    deadLetters: pipeline.deadLetters,
    keyOf: () => undefined,
    predict: async (events) => {
      await held.promise
      return events.map(() => ({ prediction: Buffer.from('{"score":0}') }))
    },
  }
  const { gateway, metric } = await startGateway({ pipelines: [holding], maxCallsInFlight: 1 })
  const call = await caller(gateway.grpcPort)
  const first = call(60_000)
  await expect.poll(() => metric('spillway_gateway_calls_in_flight')).toBe(1)
  const others = await Promise.all(Array.from({ length: 3000 }, () => call(60_000)))
  expect(new Set(others)).toEqual(new Set(['RESOURCE_EXHAUSTED']))
  held.resolve()
  expect(await first).toBe('OK')
})
