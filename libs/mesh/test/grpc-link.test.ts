import { type Batch, type Component, MeshError, type Runner, type StageContext, takeRows } from '@spillway/core'
import { GrpcChannel, GrpcServer } from '@spillway/rpc'
import { meshV1, toInferRequest } from '@spillway/wire'
import { afterEach, describe, expect, test } from 'vitest'
import { rowsOf } from '../../core/test/rows.ts'
import { GrpcRunner, meshService } from '../src/grpc-link.ts'
import { never, rows, runnerOf, telemetry, through } from './fixture.ts'

const frame = { schema: 's', release: '1', target: '' }
const stream: StageContext = { signal: never, mode: 'stream' }
const out = { done: { kind: 'sink', sink: 'out' } } as const
const open: Component[] = []

afterEach(async () => {
  for (const component of open.splice(0).toReversed()) await component.drain()
})

/** The runner behind a real server, as another process sees it; `contexts` keeps what reached it. */
async function linked(runner: Runner, contexts: StageContext[] = [], stage = 'stage'): Promise<GrpcRunner> {
  const seen: Runner = { run: (batch, context) => (contexts.push(context), runner.run(batch, context)) }
  const lookup = (pipeline: string, entered: string): Runner => {
    if (pipeline !== 'test' || entered !== 'stage') throw new MeshError('NOT_FOUND', `stage "${entered}" is not hosted here`)
    return seen
  }
  const server = new GrpcServer({ port: 0, services: [meshService(lookup, frame)], telemetry })
  open.push(server)
  await server.start()
  return new GrpcRunner({ channel: await channelTo(server.port), pipeline: 'test', stage, frame })
}

async function channelTo(port: number): Promise<GrpcChannel> {
  const channel = new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry })
  open.push(channel)
  await channel.start(never)
  return channel
}

/** Rows whose deadline is in 200 ms. */
function late(ids: readonly string[]): Batch {
  const batch = rows(ids)
  return { ...batch, meta: { ...batch.meta, deadlinesMs: new Float64Array(ids.length).fill(Date.now() + 200) } }
}

describe('a gRPC link', () => {
  test('brings back outputs as the stage gave them, with all that is known of each row', async () => {
    const batch = rows(['a', 'b', 'c'])
    const { outputs, failures } = await (await linked(runnerOf((each) => through('done', each), out))).run(batch, stream)
    expect(failures).toEqual([])
    expect(rowsOf(outputs.get('out')!)).toEqual(rowsOf(batch))
  })

  test('brings back failures: their stage, the rows as that stage was given them, code, message and field', async () => {
    const error = new MeshError('INVALID_ARGUMENT', 'x: expected a number', { field: 'x' })
    const runner = runnerOf((batch) => ({ outputs: new Map([['done', takeRows(batch, [0, 2])]]), failures: [{ row: 1, error }] }), out)
    const { outputs, failures } = await (await linked(runner)).run(rows(['a', 'b', 'c']), stream)
    expect(outputs.get('out')!.meta.ids).toEqual(['a', 'c'])
    expect(failures).toHaveLength(1)
    const [failed] = failures
    expect([failed!.stage, rowsOf(failed!.batch)]).toEqual(['stage', rowsOf(takeRows(rows(['a', 'b', 'c']), [1]))])
    expect(failed!.errors).toEqual([expect.objectContaining({ code: 'INVALID_ARGUMENT', message: 'x: expected a number', field: 'x' })])
  })

  test('a stage that throws over there fails the row that it threw on', async () => {
    const runner = runnerOf((batch: Batch) => {
      if (batch.meta.ids.includes('b')) throw new RangeError('no b')
      return through('done', batch)
    }, out)
    const { outputs, failures } = await (await linked(runner)).run(rows(['a', 'b', 'c']), stream)
    expect(outputs.get('out')!.meta.ids).toEqual(['a', 'c'])
    expect(failures.flatMap(({ batch, errors }) => [batch.meta.ids, errors[0]!.code])).toEqual([['b'], 'INTERNAL'])
  })

  test('an error of the whole batch keeps its code: the head knows whether to try again', async () => {
    for (const code of ['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION'] as const) {
      const failing: Runner = { run: () => Promise.reject(new MeshError(code, 'not now')) }
      await expect((await linked(failing)).run(rows(['a']), stream)).rejects.toMatchObject({
        code,
        message: expect.stringContaining('not now') as string,
      })
    }
  })

  test('a stage that is not hosted there is NOT_FOUND', async () => {
    const other = await linked(
      runnerOf((each) => through('done', each), out),
      [],
      'other',
    )
    await expect(other.run(rows(['a']), stream)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('a process with other features refuses the rows', async () => {
    const server = new GrpcServer({
      port: 0,
      services: [meshService(() => runnerOf((each) => through('done', each), {}), { ...frame, schema: 'other' })],
      telemetry,
    })
    await server.start()
    const runner = new GrpcRunner({ channel: await channelTo(server.port), pipeline: 'test', stage: 'stage', frame })
    await expect(runner.run(rows(['a']), stream)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await server.drain()
  })

  test('a process that is away is UNAVAILABLE', async () => {
    const server = new GrpcServer({ port: 0, services: [], telemetry })
    await server.start()
    const { port } = server
    await server.drain()
    const runner = new GrpcRunner({ channel: await channelTo(port), pipeline: 'test', stage: 'stage', frame })
    await expect(runner.run(rows(['a']), stream)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  test('carries a request’s mode and deadline; on a stream the deadline stays with the row', async () => {
    const contexts: StageContext[] = []
    const waiting: Runner = {
      run: (batch, { signal }) =>
        new Promise((resolve, reject) =>
          batch.meta.ids[0] === 'a'
            ? signal.addEventListener('abort', () => reject(new Error('gone')))
            : resolve({ outputs: new Map(), failures: [] }),
        ),
    }
    const runner = await linked(waiting, contexts)
    await expect(runner.run(late(['a']), { signal: never, mode: 'request' })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
    await expect.poll(() => contexts[0]?.signal.aborted).toBe(true)
    const old = rows(['b'])
    await runner.run({ ...old, meta: { ...old.meta, deadlinesMs: Float64Array.of(1) } }, stream)
    expect(contexts.map(({ mode }) => mode)).toEqual(['request', 'stream'])
  })

  test('gives the rows of a request the time that its call has left, less the way back: the rows’ own deadline is by another clock', async () => {
    const seen: number[][] = []
    const runner: Runner = {
      run: async ({ meta }) => {
        seen.push([...meta.deadlinesMs])
        return { outputs: new Map(), failures: [] }
      },
    }
    const server = new GrpcServer({ port: 0, services: [meshService(() => runner, frame)], telemetry })
    open.push(server)
    await server.start()
    const channel = await channelTo(server.port)
    const batch = rows(['a', 'b'])
    const behind = { ...batch, meta: { ...batch.meta, deadlinesMs: Float64Array.of(1000, 2000) } }
    const { MODE_REQUEST, MODE_STREAM } = meshV1.ProcessRequest_Mode
    const request = { pipeline: 'test', stage: 'stage', frame: toInferRequest(behind, { ...frame, target: 'stage' }) }
    const beforeMs = Date.now()
    const options = { deadlineMs: beforeMs + 60_000 }
    await channel.unary(meshV1.MeshService.process, { ...request, mode: MODE_REQUEST }, options)
    const tookMs = Date.now() - beforeMs
    await channel.unary(meshV1.MeshService.process, { ...request, mode: MODE_STREAM }, options)
    for (const deadlineMs of seen[0]!) {
      expect(deadlineMs).toBeGreaterThan(options.deadlineMs - 25)
      expect(deadlineMs).toBeLessThanOrEqual(options.deadlineMs + tookMs - 19)
    }
    expect(seen.map(({ length }) => length)).toEqual([2, 2])
    expect(seen[1]).toEqual([1000, 2000])
  })
})
