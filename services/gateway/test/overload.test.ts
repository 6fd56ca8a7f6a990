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
const seconds = 5
/** Without refusals the last calls would wait for 5 s. */
const deadlineMs = 3000
const maxCallsInFlight = 40

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

it('at twice what it can serve answers what it admits in time, refuses the rest at once, and holds no more than it may', async () => {
  const { pipeline: amounts } = await startGateway()
  const pipeline = bottleneck(amounts)
  const { gateway, metric } = await startGateway({ pipelines: [pipeline], maxCallsInFlight })
  const telemetry = createTelemetry({ service: 'callers', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: `127.0.0.1:${gateway.grpcPort}`, telemetry })
  await channel.start()
  onTestFinished(async () => {
    await channel.drain()
    await telemetry.shutdown()
  })
  const admitted: number[] = []
  const others: string[] = []
  const call = async (): Promise<void> => {
    const startedMs = performance.now()
    const request = { pipeline: 'fraud', events: [Buffer.from('{}')] }
    try {
      await channel.unary(predictionV1.PredictionService.predict, request, { deadlineMs: Date.now() + deadlineMs })
      admitted.push(performance.now() - startedMs)
    } catch (error) {
      others.push(MeshError.from(error).code)
    }
  }
  // The connection, and what is compiled at the first calls, are not what is tried here.
  for (let i = 0; i < 20; i++) await call()
  admitted.splice(0)
  const calls: Promise<void>[] = []
  const startMs = performance.now()
  const total = 2 * servedPerS * seconds
  while (calls.length < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * 2 * servedPerS) + 1)
    while (calls.length < due) calls.push(call())
    await wait(2)
  }
  await Promise.all(calls)
  const p99Ms = admitted.sort((a, b) => a - b)[Math.floor(admitted.length * 0.99)]!
  expect(p99Ms).toBeLessThan(deadlineMs)
  expect(admitted.length).toBeGreaterThanOrEqual(maxCallsInFlight)
  const refused = others.filter((code) => code === 'RESOURCE_EXHAUSTED').length
  expect(refused).toBeGreaterThan(0)
  // But for those that stood still with the whole machine, which callers and gateway share.
  expect(others.length - refused).toBeLessThan(total / 10)
  expect(pipeline.mostWaiting).toBeLessThanOrEqual(maxCallsInFlight)
  expect(await metric('spillway_gateway_refused_calls_total{reason="calls"}')).toBeGreaterThanOrEqual(refused)
  await expect.poll(() => metric('spillway_gateway_calls_in_flight')).toBe(0)
})
