import {
  type Batch,
  fp32,
  type LinkedStage,
  MeshError,
  type PortLink,
  rowMeta,
  type Stage,
  type StageContext,
  StageLinks,
  type StageObserver,
  type Tensor,
  text,
  withColumns,
} from '@spillway/core'
import { describe, expect, test } from 'vitest'

const observer: StageObserver = { observe: (_stage, _batch, work) => work(), threw: () => undefined }
const contextOf = (): StageContext => ({ signal: new AbortController().signal, mode: 'request' })

function rows(ids: readonly string[]): Batch {
  const meta = rowMeta(ids.length, { ids, offsets: BigInt64Array.from(ids, (_, row) => BigInt(row)) })
  return { rowCount: ids.length, meta, columns: new Map([['id', text(ids)]]) }
}

/** Adds a column to the rows and gives them to every port; fails the rows named. */
function stage(
  name: string,
  links: Readonly<Record<string, PortLink>>,
  options: { fails?: readonly string[]; before?: () => Promise<void> | void } = {},
): LinkedStage {
  const process: Stage['process'] = async (batch) => {
    await options.before?.()
    if (batch.meta.ids.some((id) => options.fails?.includes(id))) throw new MeshError('INTERNAL', `${name} cannot have it`)
    const added: readonly [string, Tensor] = [name, fp32(new Float32Array(batch.rowCount).fill(1))]
    const all = withColumns(batch, [added])
    return { outputs: new Map(Object.keys(links).map((port) => [port, all])), failures: [] }
  }
  return { stage: { name, accepts: new Map(), ports: {}, process }, links: new Map(Object.entries(links)) }
}

/** a, then b and c side by side, then d with the columns of both. */
function diamond(change: Partial<Record<'a' | 'b' | 'c' | 'd', Parameters<typeof stage>[2]>> = {}): StageLinks {
  const nodes: Readonly<Record<string, LinkedStage>> = {
    a: stage('a', { left: { stage: 'b' }, right: { stage: 'c' } }, change.a),
    b: stage('b', { out: { stage: 'd' } }, change.b),
    c: stage('c', { out: { stage: 'd' } }, change.c),
    d: { ...stage('d', { out: { sink: 'done' } }, change.d), gathers: 2 },
  }
  return new StageLinks({ node: (id) => nodes[id]!, observer })
}

describe('stages side by side', () => {
  test('meet again in the stage that gathers: the same rows, with the columns of both', async () => {
    const { outputs, failures } = await diamond()
      .runner('a')
      .run(rows(['x', 'y']), contextOf())
    expect(failures).toEqual([])
    expect([...outputs.get('done')!.columns.keys()].toSorted()).toEqual(['a', 'b', 'c', 'd', 'id'])
    expect(outputs.get('done')!.meta.ids).toEqual(['x', 'y'])
  })

  test('do not wait for each other', async () => {
    const reached = Promise.withResolvers<void>()
    const links = diamond({ b: { before: () => reached.promise }, c: { before: () => reached.resolve() } })
    expect((await links.runner('a').run(rows(['x']), contextOf())).outputs.get('done')!.rowCount).toBe(1)
  })

  test('a row that fails on one side goes on on none, and fails once', async () => {
    const { outputs, failures } = await diamond({ b: { fails: ['y'] } })
      .runner('a')
      .run(rows(['x', 'y', 'z']), contextOf())
    expect(outputs.get('done')!.meta.ids).toEqual(['x', 'z'])
    expect(failures.map(({ stage: name, batch }) => [name, batch.meta.ids])).toEqual([['b', ['y']]])
  })

  test('rows that fail on either side are told apart from those that fail on none', async () => {
    const { outputs } = await diamond({ b: { fails: ['y'] }, c: { fails: ['x'] } })
      .runner('a')
      .run(rows(['x', 'y', 'z']), contextOf())
    expect(outputs.get('done')!.meta.ids).toEqual(['z'])
  })

  test('a run that fails on one side fails as a whole, and leaves nothing for the next', async () => {
    let away = true
    const nodes: Readonly<Record<string, LinkedStage>> = {
      a: stage('a', { left: { stage: 'b' }, right: { stage: 'c' } }),
      b: stage('b', { out: { stage: 'd' } }),
      c: {
        ...stage('c', { out: { stage: 'd' } }),
        stage: {
          ...stage('c', { out: { stage: 'd' } }).stage,
          process: (batch, context) =>
            away ? Promise.reject(new MeshError('UNAVAILABLE', 'away')) : stage('c', { out: { stage: 'd' } }).stage.process(batch, context),
        },
      },
      d: { ...stage('d', { out: { sink: 'done' } }), gathers: 2 },
    }
    const runner = new StageLinks({ node: (id) => nodes[id]!, observer }).runner('a')
    await expect(runner.run(rows(['x']), contextOf())).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    away = false
    expect((await runner.run(rows(['z']), contextOf())).outputs.get('done')!.meta.ids).toEqual(['z'])
  })

  test('runs at the same time are not mixed', async () => {
    const runner = diamond().runner('a')
    const results = await Promise.all(['x', 'y', 'z'].map((id) => runner.run(rows([id]), contextOf())))
    expect(results.map(({ outputs }) => outputs.get('done')!.meta.ids)).toEqual([['x'], ['y'], ['z']])
  })
})

test('a stage that is elsewhere is a runner of its own', async () => {
  const elsewhere = { run: (batch: Batch) => Promise.resolve({ outputs: new Map([['far', batch]]), failures: [] }) }
  const links = new StageLinks({ node: (id) => (id === 'a' ? stage('a', { out: { stage: 'b' } }) : elsewhere), observer })
  expect((await links.runner('a').run(rows(['x']), contextOf())).outputs.get('far')!.meta.ids).toEqual(['x'])
})
