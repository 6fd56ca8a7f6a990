import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DEGRADED, ESCALATED, FINAL_TIER } from '@spillway/cascade'
import {
  type Batch,
  column,
  type Component,
  MeshError,
  rowMeta,
  type Stage,
  type StageContext,
  type Tensor,
  systemClock,
  tensor,
  textValues,
  type BytesColumn,
} from '@spillway/core'
import { parsePipeline, type Pipeline } from '@spillway/mesh'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import {
  inferenceService,
  type InferRequest,
  LocalModelClient,
  type ModelClient,
  type ModelSignature,
  ModelManager,
  OipModelClient,
} from '@spillway/serving'
import { createMeshMetrics, createTelemetry } from '@spillway/telemetry'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { logistic, logisticModel, mlpModel, onnxModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { GuardedModel } from '../src/guarded-model.ts'
import { TierStage, tierStages } from '../src/mod.ts'

const telemetry = createTelemetry({ service: 'tier-test', logLevel: 'silent', otlp: false })
const metrics = createMeshMetrics(telemetry.registry)
const never = new AbortController().signal
const stream: StageContext = { signal: never, mode: 'stream' }
const request: StageContext = { signal: never, mode: 'request' }
let repository: string
let local: ModelClient
let manager: ModelManager
const open: Component[] = []

/** A node that gives the features as they are. */
const copy = (output: string): { op: string; inputs: string[]; outputs: string[] } => ({
  op: 'Identity',
  inputs: ['features'],
  outputs: [output],
})

beforeAll(async () => {
  repository = await mkdtemp(join(tmpdir(), 'spillway-tiers-'))
  await writeModel(repository, 'cheap', 3, logisticModel([1], 0))
  await writeModel(repository, 'heavy', 1, logisticModel([2], 1))
  await writeModel(repository, 'classes', 1, mlpModel([1, 4, 3]))
  const ids = { name: 'features', datatype: 'FP32', shape: ['rows', 1] } as const
  await writeModel(
    repository,
    'two-outputs',
    1,
    onnxModel({
      inputs: [ids],
      outputs: [
        { ...ids, name: 'a' },
        { ...ids, name: 'b' },
      ],
      nodes: [copy('a'), copy('b')],
    }),
  )
  manager = new ModelManager({ repository, telemetry })
  await manager.start(never)
  local = new LocalModelClient(manager)
})
afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
})
afterAll(async () => {
  await manager.drain()
  await telemetry.shutdown()
  await rm(repository, { recursive: true })
})

/** A pipeline whose model takes the events' one number. */
function pipelineWith(tiers: string, more = ''): Pipeline {
  const source = `{ pipeline: test, inputs: { events: { fields: { x: number } } }, cascade: { tiers: [${tiers}] }${more} }`
  return parsePipeline(source, 'test.yaml')
}

function stagesOf(tiers: string, more = ''): Promise<readonly Stage[]> {
  return tierStages({ pipeline: pipelineWith(tiers, more), modelOf: () => local, clock: systemClock, metrics, telemetry, signal: never })
}

function features(xs: readonly number[]): Tensor {
  return tensor('FP32', [xs.length, 1], Float32Array.from(xs))
}

/** A row a number, in the order of their offsets. */
function rows(xs: readonly number[], deadlinesMs?: readonly number[]): Batch {
  const offsets = BigInt64Array.from(xs, (_, row) => BigInt(row))
  const meta = rowMeta(xs.length, { offsets, ...(deadlinesMs === undefined ? {} : { deadlinesMs: Float64Array.from(deadlinesMs) }) })
  return { rowCount: xs.length, meta, columns: new Map([['features', features(xs)]]) }
}

interface Answer {
  readonly offset: number
  readonly score: number
  readonly model: string
  readonly version: string
  readonly reason: number
}

function answers(batch: Batch | undefined): readonly Answer[] {
  if (batch === undefined) return []
  const numbers = (name: string): ArrayLike<number> => column(batch, name).data as Float64Array
  const texts = (name: string): readonly string[] => textValues(column(batch, name).data as BytesColumn)
  return Array.from({ length: batch.rowCount }, (_, row) => ({
    offset: Number(batch.meta.offsets[row]),
    score: numbers('score')[row]!,
    model: texts('model')[row]!,
    version: texts('model_version')[row]!,
    reason: numbers('reason')[row]!,
  }))
}

test('where the model’s traffic is split, each row goes to the version of its key, and its answer names it', async () => {
  for (const version of [1, 2]) await writeModel(repository, 'canary', version, logisticModel([1], version))
  const models = new ModelManager({
    repository,
    models: ['canary'],
    listed: [{ name: 'canary', basePath: join(repository, 'canary'), policy: { kind: 'all' } }],
    telemetry,
  })
  open.push(models)
  await models.start(never)
  models.setTraffic('canary', {
    split: [
      { to: '1', weight: 1 },
      { to: '2', weight: 1 },
    ],
  })
  const client = new LocalModelClient(models)
  const [stage] = await tierStages({
    pipeline: pipelineWith('{ model: canary }'),
    modelOf: () => client,
    clock: systemClock,
    metrics,
    telemetry,
    signal: never,
  })
  const keys = Array.from({ length: 40 }, (_, row) => `card-${row % 20}`)
  const given = rows(keys.map((_, row) => row / 40))
  const { outputs } = await stage!.process({ ...given, meta: { ...given.meta, keys } }, stream)
  const answered = answers(outputs.get('accepted'))
  expect(new Set(answered.map(({ version }) => version))).toEqual(new Set(['1', '2']))
  for (const [row, { version, score }] of answered.entries()) {
    expect(version).toBe(answered[(row + 20) % 40]!.version)
    expect(score).toBeCloseTo(logistic([1], Number(version), [row / 40]), 5)
  }
})

const sixDecimals = (score: number): number => Math.round(score * 1e6) / 1e6
const cascade = '{ model: cheap, accept: { below: 0.1, above: 0.9 } }, { model: heavy }'

describe('a tier', () => {
  test('accepts what it is sure about and escalates the rest; the last one answers all', async () => {
    const [cheap, heavy] = await stagesOf(cascade)
    const { outputs, failures } = await cheap!.process(rows([-5, 0, 5, 0.5]), stream)
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted'))).toEqual([
      { offset: 0, score: sixDecimals(logistic([1], 0, [-5])), model: 'cheap', version: '3', reason: 1 },
      { offset: 2, score: sixDecimals(logistic([1], 0, [5])), model: 'cheap', version: '3', reason: 2 },
    ])
    const escalated = outputs.get('escalated')!
    expect(answers(escalated).map(({ offset, reason }) => [offset, reason])).toEqual([
      [1, ESCALATED],
      [3, ESCALATED],
    ])
    const final = await heavy!.process(escalated, stream)
    expect([...final.outputs.keys()]).toEqual(['accepted'])
    expect(answers(final.outputs.get('accepted'))).toEqual([
      { offset: 1, score: sixDecimals(logistic([2], 1, [0])), model: 'heavy', version: '1', reason: FINAL_TIER },
      { offset: 3, score: sixDecimals(logistic([2], 1, [0.5])), model: 'heavy', version: '1', reason: FINAL_TIER },
    ])
  })

  test('takes the class that the file names as the score', async () => {
    const given = await local.infer({
      model: 'classes',
      inputs: new Map([['features', features([0.3, -2])]]),
      rowCount: 2,
      deadlineMs: Infinity,
      signal: never,
    })
    const all = given.outputs.get('score')!.data as Float32Array
    for (const index of [0, 1, 2]) {
      const [stage] = await stagesOf(`{ model: classes, class: ${index} }`)
      const { outputs } = await stage!.process(rows([0.3, -2]), stream)
      expect(answers(outputs.get('accepted')).map(({ score }) => score)).toEqual([all[index]!, all[3 + index]!].map(sixDecimals))
    }
  })

  test('that is the first fails the rows of a call whose deadline is over, and only those', async () => {
    const [cheap] = await stagesOf(cascade)
    const { outputs, failures } = await cheap!.process(rows([5, 6, 7], [Infinity, Date.now() - 1, Date.now() + 60_000]), request)
    expect(answers(outputs.get('accepted')).map(({ offset }) => offset)).toEqual([0, 2])
    expect(failures).toEqual([
      {
        row: 1,
        error: expect.objectContaining({ code: 'DEADLINE_EXCEEDED', message: expect.stringContaining('"cheap"') as string }) as Error,
      },
    ])
  })
})

describe('rows of a stream that are late before the first tier', () => {
  const late = (): Batch => rows([5, 0.3], [Date.now() - 1, Date.now() - 1])

  test('are scored all the same, and those that it is not sure about are answered degraded by it', async () => {
    const [cheap, heavy] = await stagesOf(cascade)
    const { outputs, failures } = await cheap!.process(late(), stream)
    expect(failures).toEqual([])
    expect(answers(outputs.get('accepted')).map(({ reason }) => reason)).toEqual([2])
    const final = await heavy!.process(outputs.get('escalated')!, stream)
    expect(answers(final.outputs.get('accepted')).map(({ model, reason }) => [model, reason])).toEqual([['cheap', DEGRADED]])
  })

  test('fail where the file says refuse', async () => {
    const [cheap] = await stagesOf(cascade, ', deadline: { within: 1s, late: refuse }')
    const { outputs, failures } = await cheap!.process(late(), stream)
    expect(outputs.size).toBe(0)
    expect(failures.map(({ error }) => error.code)).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED'])
  })
})

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The second tier over the first, its model behind real gRPC. */
async function remoteHeavy(port: number, whenUnavailable: 'wait' | 'degrade' = 'wait'): Promise<TierStage> {
  const client = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry }))
  open.push(client)
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
      metrics,
      logger: telemetry.logger,
    }),
    input: { tensor: 'features', column: 'features' },
    score: { tensor: 'score', index: 0 },
    refusesLate: false,
    clock: systemClock,
    metrics,
    ...others,
  })
}

async function startHeavy(port: number): Promise<GrpcServer> {
  const server = new GrpcServer({ port, telemetry, services: [inferenceService(manager)] })
  await server.start()
  return server
}

async function escalated(deadlinesMs: readonly number[]): Promise<Batch> {
  const [cheap] = await stagesOf(cascade)
  const { outputs } = await cheap!.process(
    rows(
      deadlinesMs.map(() => 0.3),
      deadlinesMs.map(() => Infinity),
    ),
    stream,
  )
  const batch = outputs.get('escalated')!
  return { ...batch, meta: { ...batch.meta, deadlinesMs: Float64Array.from(deadlinesMs) } }
}

describe('a tier whose model is away', () => {
  test('answers with the score of the tier before when the deadline comes, marked degraded', async () => {
    const heavy = await remoteHeavy(await closedPort())
    const startedMs = Date.now()
    const deadlineMs = startedMs + 400
    const { outputs, failures } = await heavy.process(await escalated([deadlineMs, deadlineMs]), stream)
    expect(Date.now() - startedMs).toBeGreaterThan(300)
    expect(failures).toEqual([])
    const score = sixDecimals(logistic([1], 0, [0.3]))
    expect(answers(outputs.get('accepted'))).toEqual(
      [0, 1].map((offset) => ({ offset, score, model: 'cheap', version: '3', reason: DEGRADED })),
    )
  })

  test('waits for it where there is no deadline; neighbours with one do not miss theirs', async () => {
    const port = await closedPort()
    const heavy = await remoteHeavy(port)
    const answered = heavy.process(await escalated([Infinity, Date.now() + 200]), stream)
    const degradedBefore = metrics.status().degradedRows
    await expect.poll(() => metrics.status().degradedRows, { timeout: 5000 }).toBe(degradedBefore + 1)
    open.unshift(await startHeavy(port))
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
  const far = (): number => Date.now() + 60_000
  const state = async (): Promise<string | undefined> =>
    /spillway_breaker_state\{tier="heavy",state="([a-z-]+)"\} 1/.exec(await telemetry.registry.metrics())?.[1]

  /** Calls until the breaker opens; each is answered degraded, at its deadline. */
  async function openBreaker(heavy: TierStage): Promise<void> {
    for (let i = 0; i < 5 && (await state()) !== 'open'; i++) await heavy.process(await escalated([Date.now() + 200]), request)
    expect(await state()).toBe('open')
  }

  test('is not called any more: calls are answered degraded at once; when it is back, it is probed and called again', async () => {
    const port = await closedPort()
    const heavy = await remoteHeavy(port)
    await openBreaker(heavy)
    const startedMs = Date.now()
    const { outputs } = await heavy.process(await escalated([far(), far()]), request)
    expect(Date.now() - startedMs).toBeLessThan(20_000)
    expect(answers(outputs.get('accepted')).map(({ model, reason }) => [model, reason])).toEqual([
      ['cheap', DEGRADED],
      ['cheap', DEGRADED],
    ])
    expect(await telemetry.registry.metrics()).toMatch(/spillway_degraded_rows_total\{tier="heavy",reason="unavailable"\} [1-9]/)
    open.unshift(await startHeavy(port))
    await expect
      .poll(async () => answers((await heavy.process(await escalated([far()]), request)).outputs.get('accepted'))[0]!.model, {
        timeout: 20_000,
      })
      .toBe('heavy')
    expect(await state()).toBe('closed')
  })

  test('fails the rows of a call where there is no tier before it', async () => {
    const client = new OipModelClient(new GrpcChannel({ address: `127.0.0.1:${await closedPort()}`, telemetry }))
    open.push(client)
    const first = heavyTier(client, { fallbackModel: undefined })
    const startedMs = Date.now()
    const { failures } = await first.process(rows([0.3], [far()]), request)
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
    open.unshift(await startHeavy(port))
    expect(answers((await answered).outputs.get('accepted')).map(({ reason }) => reason)).toEqual([FINAL_TIER])
  })
})

describe('a model that is too slow', () => {
  /** Takes all the time that it is given. */
  class SlowModel implements ModelClient {
    calls = 0

    signature(model: string, signal: AbortSignal): Promise<ModelSignature> {
      return local.signature(model, signal)
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

describe('a model that does not fit the pipeline is named with the setting', () => {
  test.each([
    ['{ model: cheap, input: x }', 'cascade.tiers[0].input', /it has no input "x": choose among features/],
    ['{ model: cheap, score: p }', 'cascade.tiers[0].score', /it has no output "p": choose among score/],
    ['{ model: two-outputs }', 'cascade.tiers[0].score', /it has 2 outputs \(a, b\): say which one with "score:"/],
    ['{ model: classes }', 'cascade.tiers[0].class', /has 3 values a row: say which one is the score/],
    ['{ model: classes, class: 3 }', 'cascade.tiers[0].class', /"class" must be under 3/],
    ['{ model: cheap, accept: { below: 0.1 } }, { model: unknown }', undefined, /unknown/],
  ])('%s', async (tiers, field, message) => {
    await expect(stagesOf(tiers)).rejects.toMatchObject({ field, message: expect.stringMatching(message) as string })
  })

  test('where its input takes other rows', async () => {
    const pipeline = parsePipeline(
      '{ pipeline: test, inputs: { events: { fields: { x: number, y: number } } }, cascade: { tiers: [{ model: cheap }] } }',
      'test.yaml',
    )
    const stages = tierStages({ pipeline, modelOf: () => local, clock: systemClock, metrics, telemetry, signal: never })
    await expect(stages).rejects.toThrow('its input "features" is FP32 [rows, 1], and the pipeline gives FP32 [rows, 2] (x, y)')
  })
})
