import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { DEGRADED, FINAL_TIER } from '@spillway/cascade'
import { type Batch, fp64, MeshError, systemClock, withColumns } from '@spillway/core'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import { inferenceService, type InferRequest, type ModelClient, type ModelSignature, OipModelClient } from '@spillway/serving'
import { describe, expect, test } from 'vitest'
import { logistic } from '../../../libs/serving/test/onnx-builder.ts'
import { GuardedModel } from '../src/guarded-model.ts'
import { TierStage } from '../src/mod.ts'
import { answers, cascade, never, pipelineWith, request, rows, sixDecimals, stream, TierRig } from './tier-fixture.ts'

const tiers = new TierRig()

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The second tier over the first, its model behind real gRPC. */
async function remoteHeavy(port: number, whenUnavailable: 'wait' | 'degrade' = 'wait'): Promise<TierStage> {
  const client = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry: tiers.telemetry }))
  tiers.open.push(client)
  await client.start(never)
  return heavyTier(client, { whenUnavailable })
}

function heavyTier(client: ModelClient, changes: { whenUnavailable?: 'wait' | 'degrade'; fallbackModel?: undefined } = {}): TierStage {
  const { whenUnavailable = 'wait', ...others } = changes
  return new TierStage({
    name: 'tier-2',
    tier: { model: 'heavy', whenUnavailable },
    fallbackModel: 'cheap',
    model: new GuardedModel({
      model: 'heavy',
      client,
      lateIsFailure: !('fallbackModel' in changes),
      clock: systemClock,
      metrics: tiers.metrics,
      logger: tiers.telemetry.logger,
    }),
    input: { tensor: 'features', column: 'features' },
    score: { tensor: 'score', index: 0 },
    refusesLate: false,
    clock: systemClock,
    metrics: tiers.metrics,
    ...others,
  })
}

async function startHeavy(port: number): Promise<GrpcServer> {
  const server = new GrpcServer({ port, telemetry: tiers.telemetry, services: [inferenceService(tiers.manager)] })
  await server.start()
  return server
}

/** Rows that the first tier escalates, with so much time left each. */
async function escalated(leftMs: readonly number[]): Promise<Batch> {
  const [cheap] = await tiers.stagesOf(pipelineWith(cascade))
  const { outputs } = await cheap!.process(rows(leftMs.map(() => 0.3)), stream)
  const batch = outputs.get('escalated')!
  // Begins here: what the first tier takes on a slow machine is not to be the second's.
  const nowMs = Date.now()
  return { ...batch, meta: { ...batch.meta, deadlinesMs: Float64Array.from(leftMs, (left) => nowMs + left) } }
}

describe('a tier whose model is away', () => {
  test('answers with the score of the tier before when the deadline comes, marked degraded', async () => {
    const heavy = await remoteHeavy(await closedPort())
    const given = await escalated([400, 400])
    const { outputs, failures } = await heavy.process(given, stream)
    expect(Date.now()).toBeGreaterThan(given.meta.deadlinesMs[0]! - 100)
    expect(failures).toEqual([])
    const score = sixDecimals(logistic([1], 0, [0.3]))
    expect(answers(outputs.get('accepted'))).toEqual(
      [0, 1].map((offset) => ({ offset, score, model: 'cheap', version: '3', reason: DEGRADED })),
    )
  })

  test('waits for it where there is no deadline; neighbours with one do not miss theirs', async () => {
    const port = await closedPort()
    const heavy = await remoteHeavy(port)
    const answered = heavy.process(await escalated([Infinity, 200]), stream)
    const degradedBefore = tiers.metrics.status().degradedRows
    await expect.poll(() => tiers.metrics.status().degradedRows, { timeout: 5000 }).toBe(degradedBefore + 1)
    tiers.open.unshift(await startHeavy(port))
    const { outputs, failures } = await answered
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted')).map(({ offset, model, reason }) => [offset, model, reason])).toEqual([
      [0, 'heavy', FINAL_TIER],
      [1, 'cheap', DEGRADED],
    ])
  })

  test('stops waiting when nobody wants the answer any more', async () => {
    const heavy = await remoteHeavy(await closedPort())
    const gone = new AbortController()
    const waiting = heavy.process(await escalated([Infinity]), { signal: gone.signal, mode: 'stream' })
    gone.abort()
    await expect(waiting).rejects.toThrow()
  })
})

describe('a tier whose model fails again and again', () => {
  const farMs = 60_000
  const state = async (): Promise<string | undefined> =>
    /spillway_breaker_state\{tier="heavy",state="([a-z-]+)"\} 1/.exec(await tiers.telemetry.registry.metrics())?.[1]

  /** Calls until the breaker opens; each is answered degraded, at its deadline. */
  async function openBreaker(heavy: TierStage): Promise<void> {
    for (let i = 0; i < 5 && (await state()) !== 'open'; i++) await heavy.process(await escalated([200]), request)
    expect(await state()).toBe('open')
  }

  test('is not called any more: calls are answered degraded at once; when it is back, it is probed and called again', async () => {
    const port = await closedPort()
    const heavy = await remoteHeavy(port)
    await openBreaker(heavy)
    const startedMs = Date.now()
    const { outputs } = await heavy.process(await escalated([farMs, farMs]), request)
    expect(Date.now() - startedMs).toBeLessThan(20_000)
    expect(answers(outputs.get('accepted')).map(({ model, reason }) => [model, reason])).toEqual([
      ['cheap', DEGRADED],
      ['cheap', DEGRADED],
    ])
    expect(await tiers.telemetry.registry.metrics()).toMatch(/spillway_degraded_rows_total\{tier="heavy",reason="unavailable"\} [1-9]/)
    tiers.open.unshift(await startHeavy(port))
    await expect
      .poll(async () => answers((await heavy.process(await escalated([farMs]), request)).outputs.get('accepted'))[0]!.model, {
        timeout: 20_000,
      })
      .toBe('heavy')
    expect(await state()).toBe('closed')
  })

  test('fails the rows of a call where there is no tier before it', async () => {
    const client = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${await closedPort()}`, telemetry: tiers.telemetry }))
    tiers.open.push(client)
    const first = heavyTier(client, { fallbackModel: undefined })
    const startedMs = Date.now()
    const { failures } = await first.process(rows([0.3], [Date.now() + farMs]), request)
    expect(Date.now() - startedMs).toBeLessThan(20_000)
    expect(failures).toEqual([{ row: 0, error: expect.objectContaining({ code: 'UNAVAILABLE' }) as Error }])
  })

  test('degrades the rows of a stream where the file says so, and keeps them waiting where it does not', async () => {
    const port = await closedPort()
    const degrading = await remoteHeavy(port, 'degrade')
    const { outputs } = await degrading.process(await escalated([Infinity]), stream)
    expect(answers(outputs.get('accepted')).map(({ reason }) => reason)).toEqual([DEGRADED])
    const waiting = await remoteHeavy(port)
    const answered = waiting.process(await escalated([Infinity]), stream)
    await expect.poll(state, { timeout: 10_000 }).toBe('open')
    tiers.open.unshift(await startHeavy(port))
    expect(answers((await answered).outputs.get('accepted')).map(({ reason }) => reason)).toEqual([FINAL_TIER])
  })

  test('has the rows of a stream wait for it that the tier before has not scored either', async () => {
    const port = await closedPort()
    const degrading = await remoteHeavy(port, 'degrade')
    const unscored = withColumns(await escalated([Infinity, Infinity]), [['score', fp64(Float64Array.of(0.5, Number.NaN))]])
    const answered = degrading.process(unscored, stream)
    await expect.poll(state, { timeout: 10_000 }).toBe('open')
    tiers.open.unshift(await startHeavy(port))
    const { outputs, failures } = await answered
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted')).map(({ offset, reason }) => [offset, reason])).toEqual([
      [0, DEGRADED],
      [1, FINAL_TIER],
    ])
  })
})

describe('a model that is too slow', () => {
  /** Takes all the time that it is given. */
  class SlowModel implements ModelClient {
    calls = 0

    signature(model: string, signal: AbortSignal): Promise<ModelSignature> {
      return tiers.local.signature(model, signal)
    }

    async infer({ deadlineMs }: InferRequest): Promise<never> {
      this.calls++
      await new Promise((resolve) => setTimeout(resolve, deadlineMs - Date.now()))
      throw new MeshError('DEADLINE_EXCEEDED', 'too slow')
    }
  }

  test('is not asked once for each deadline in a slice: what it took too long for, it will not do in less', async () => {
    const slow = new SlowModel()
    const heavy = heavyTier(slow)
    const batch = await escalated(new Array<number>(100).fill(Infinity))
    const nowMs = Date.now()
    const deadlinesMs = Float64Array.from(batch.meta.deadlinesMs, (_, row) => nowMs + 120 + row)
    const { outputs } = await heavy.process({ ...batch, meta: { ...batch.meta, deadlinesMs } }, stream)
    expect(answers(outputs.get('accepted')).filter(({ reason }) => reason === DEGRADED)).toHaveLength(100)
    expect(slow.calls).toBeLessThanOrEqual(3)
  })
})
