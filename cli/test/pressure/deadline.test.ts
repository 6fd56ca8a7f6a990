import { expect, test } from 'vitest'
import type { Host } from '../../src/host.ts'
import { HeavyServer } from './heavy-server.ts'
import { endsWithTest, freePort, modelFolder, type Prediction, startHost, sure, twoTiers, unsure } from './two-tiers.ts'

/** Gateway → preprocessing → (gRPC) → cascade-router → (gRPC) → heavy model. */
async function start(): Promise<{ gateway: Host; router: Host; heavy: HeavyServer }> {
  const heavy = new HeavyServer()
  const pipeline = twoTiers(await modelFolder(), await heavy.start(), 'placement: { features: grpc }')
  endsWithTest({ drain: () => heavy.stop() })
  const ports = { http: 0, grpc: await freePort() }
  const router = await startHost(pipeline, ['cascade-router'], { ports })
  const gateway = await startHost(pipeline, ['gateway', 'preprocessing'], {
    peers: new Map([['cascade-router', `127.0.0.1:${ports.grpc}`]]),
  })
  return { gateway, router, heavy }
}

interface Answer {
  readonly status: number
  readonly prediction: Prediction | undefined
  readonly code: string | undefined
  readonly tookMs: number
}

async function predict(host: Host, x: number, timeoutMs: number): Promise<Answer> {
  const startedMs = performance.now()
  const response = await fetch(`http://127.0.0.1:${host.gateway.httpPort}/v1/pipelines/pressure:predict`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-spillway-timeout-ms': String(timeoutMs) },
    body: JSON.stringify({ event: { n: 1, user: 'u', x } }),
  })
  const body = (await response.json()) as { prediction?: Prediction; error?: { code: string } }
  return { status: response.status, prediction: body.prediction, code: body.error?.code, tookMs: performance.now() - startedMs }
}

const metricOf = async (host: Host, pattern: RegExp): Promise<number> =>
  Number(pattern.exec(await host.telemetry.registry.metrics())?.[1] ?? 0)

test('a deadline reaches the model over every hop: what the heavy one cannot do in time is answered degraded, and what has no time is not begun', async () => {
  const { gateway, router, heavy } = await start()
  expect((await predict(gateway, unsure, 10_000)).prediction).toMatchObject({ tier: 'heavy', reason: 'final-tier', degraded: false })
  heavy.hold()
  // Where the machine stands still for longer than what is kept for the way back, a call is only told that it is too late.
  const late: Answer[] = []
  while (late.length < 4 && late.at(-1)?.status !== 200) late.push(await predict(gateway, unsure, 1500))
  expect(late.at(-1)).toMatchObject({ status: 200, prediction: { tier: 'cheap', reason: 'degraded', degraded: true } })
  expect(late.at(-1)!.tookMs).toBeLessThan(1500 + 500)
  expect(heavy.givenMs.at(-1)!).toBeGreaterThan(0)
  expect(heavy.givenMs.at(-1)!).toBeLessThan(1500)
  await expect.poll(() => heavy.cancelled, { timeout: 10_000 }).toBe(late.length)
  expect(await metricOf(router, /spillway_degraded_rows_total\{tier="heavy",reason="deadline"\} (\d+)/)).toBeGreaterThan(0)
  const calls = heavy.calls
  expect(await predict(gateway, unsure, 12)).toMatchObject({ status: 504, code: 'DEADLINE_EXCEEDED' })
  expect(heavy.calls).toBe(calls)
})

test('once the heavy model has failed enough, calls are answered degraded without it, until a probe finds it well', async () => {
  const { gateway, router, heavy } = await start()
  heavy.hold()
  for (let i = 0; i < 5; i++) await predict(gateway, unsure, 600)
  const calls = heavy.calls
  // Many at once, since a probe may be one of them.
  const degraded = await Promise.all(Array.from({ length: 20 }, () => predict(gateway, unsure, 8000)))
  expect(degraded.every(({ prediction }) => prediction?.degraded === true)).toBe(true)
  expect(degraded.filter(({ tookMs }) => tookMs < 6000).length).toBeGreaterThanOrEqual(19)
  expect(heavy.calls - calls).toBeLessThanOrEqual(5)
  expect((await predict(gateway, sure, 8000)).prediction).toMatchObject({ tier: 'cheap', degraded: false })
  expect(await metricOf(router, /spillway_degraded_rows_total\{tier="heavy",reason="unavailable"\} (\d+)/)).toBeGreaterThan(15)
  heavy.release()
  await expect.poll(async () => (await predict(gateway, unsure, 8000)).prediction?.tier, { timeout: 30_000 }).toBe('heavy')
  expect(await metricOf(router, /spillway_breaker_state\{tier="heavy",state="closed"\} (\d+)/)).toBe(1)
})
