import { type Batch, type ColumnType, inSourceOrder, MeshError, type Stage, type StageContext, StageRunner, takeRows } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { never, observer, rows, runnerOf, stageOf, through } from './fixture.ts'

const stream: StageContext = { signal: never, mode: 'stream' }
const out = { done: { kind: 'sink', sink: 'out' } } as const
const letters = ['a', 'b', 'c', 'd', 'e', 'f', 'g']

/** Throws where a row is among `bad`. */
function refusing(bad: readonly string[], error: () => Error): (batch: Batch) => ReturnType<typeof through> {
  return (batch) => {
    if (batch.meta.ids.some((id) => bad.includes(id))) throw error()
    return through('done', batch)
  }
}

describe('a stage that throws', () => {
  test.each([[['d']], [['a']], [['g']], [['b', 'c', 'f']], [letters]])('on the rows %j fails those rows and no neighbour', async (bad) => {
    const runner = runnerOf(
      refusing(bad, () => new MeshError('INTERNAL', 'cannot have it')),
      out,
    )
    const { outputs, failures } = await runner.run(rows(letters), stream)
    expect(outputs.get('out')?.meta.ids ?? []).toEqual(letters.filter((letter) => !bad.includes(letter)))
    expect(failures.flatMap(({ stage, batch, errors }) => errors.map(({ code }, row) => [stage, batch.meta.ids[row], code]))).toEqual(
      bad.map((letter) => ['stage', letter, 'INTERNAL']),
    )
  })

  test('whatever is no error of ours fails its row too', async () => {
    const runner = runnerOf(
      refusing(['c'], () => new TypeError('x is undefined')),
      out,
    )
    const { failures } = await runner.run(rows(letters), stream)
    expect(failures.flatMap(({ errors }) => errors)).toEqual([expect.objectContaining({ code: 'INTERNAL', message: 'x is undefined' })])
  })

  test('what another attempt may cure fails no row: the batch is given again', async () => {
    let calls = 0
    const runner = runnerOf(() => {
      calls++
      throw new MeshError('UNAVAILABLE', 'the store is away')
    }, out)
    await expect(runner.run(rows(letters), stream)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(calls).toBe(1)
  })

  test('after the caller has gone fails no row', async () => {
    const gone = AbortSignal.abort()
    const runner = runnerOf(
      refusing(['a'], () => new Error('aborted')),
      out,
    )
    await expect(runner.run(rows(letters), { signal: gone, mode: 'stream' })).rejects.toThrow('aborted')
  })
})

describe('what a stage declares', () => {
  const declared = (change: Partial<Stage>): StageRunner =>
    new StageRunner({
      stage: { ...stageOf((batch) => through('done', batch)), ...change },
      exits: new Map(Object.entries(out)),
      observer,
    })

  test.each<[string, ColumnType, RegExp]>([
    ['more', { datatype: 'FP32', rowShape: [3] }, /reads column "more" as FP32 \[rows, 3\], and the rows have none/],
    ['event', { datatype: 'FP32', rowShape: [] }, /reads column "event" as FP32 \[rows\], and the rows have BYTES \[rows\]/],
  ])('column %s is held against the rows: those of another type fail, and are never guessed at', async (name, type, message) => {
    const { outputs, failures } = await declared({ accepts: new Map([[name, type]]) }).run(rows(['a', 'b']), stream)
    expect(outputs.size).toBe(0)
    expect(failures.flatMap(({ errors }) => errors.map(({ code }) => code))).toEqual(['FAILED_PRECONDITION', 'FAILED_PRECONDITION'])
    expect(failures[0]!.errors[0]!.message).toMatch(message)
  })

  test('rows that fit go through', async () => {
    const runner = declared({ accepts: new Map([['event', { datatype: 'BYTES', rowShape: [] }]]) })
    expect((await runner.run(rows(['a']), stream)).outputs.get('out')?.rowCount).toBe(1)
  })

  test('a port that leads nowhere is refused when the stage is joined, not at its first row', () => {
    expect(() => declared({ ports: { done: new Map(), lost: new Map() } })).toThrow('port "lost" of stage stage leads nowhere')
  })
})

/** Every other row, from `first` on. */
function everyOther(batch: Batch, first: 0 | 1): Batch {
  return takeRows(
    batch,
    [...batch.meta.ids.keys()].filter((row) => row % 2 === first),
  )
}

describe('a batch', () => {
  test('goes on by its ports, and comes back in the order in which it was read', async () => {
    const second = runnerOf((batch) => through('done', batch), out)
    const first = runnerOf(
      (batch) => ({
        outputs: new Map([
          ['done', everyOther(batch, 0)],
          ['more', everyOther(batch, 1)],
        ]),
        failures: [],
      }),
      { ...out, more: { kind: 'call', runner: second } },
    )
    const { outputs } = await first.run(rows(letters), stream)
    expect(outputs.get('out')!.meta.ids).toEqual(letters)
  })

  test('keeps what a stage says of a single row', async () => {
    const error = new MeshError('OUT_OF_RANGE', 'too late', { field: 'time' })
    const runner = runnerOf((batch) => ({ outputs: new Map([['done', takeRows(batch, [0, 2])]]), failures: [{ row: 1, error }] }), out)
    const { outputs, failures } = await runner.run(rows(['a', 'b', 'c']), stream)
    expect(outputs.get('out')!.meta.ids).toEqual(['a', 'c'])
    expect(failures.map(({ batch, errors }) => [batch.meta.ids, errors])).toEqual([[['b'], [error]]])
  })

  test('on a port that leads nowhere is a fault of the pipeline', async () => {
    await expect(runnerOf((batch) => through('elsewhere', batch), out).run(rows(['a']), stream)).rejects.toThrow(
      'port "elsewhere", which leads nowhere',
    )
  })

  test('without rows bothers no stage', async () => {
    const runner = runnerOf(() => Promise.reject(new Error('called')), out)
    expect(await runner.run(rows([]), stream)).toEqual({ outputs: new Map(), failures: [] })
  })

  test('joined from parts is in source order', () => {
    const all = rows(letters)
    expect(inSourceOrder([takeRows(all, [5, 6]), takeRows(all, [0, 3]), takeRows(all, [1, 2, 4])]).meta.ids).toEqual(letters)
  })
})
