import { type Batch, MeshError, type StageContext, StageRunner, takeRows, text, withColumns } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { CustomStage } from '../src/custom-stage.ts'
import { defineStage, type StageModule, type StageModuleResult } from '../src/mod.ts'
import { never, observer, rows } from './fixture.ts'

const stream: StageContext = { signal: never, mode: 'stream' }
const adds = { mark: 'string' } as const

function stageOf(process: (batch: Batch) => StageModuleResult, settings: Readonly<Record<string, unknown>> = {}): CustomStage {
  const module: StageModule = { adds, process }
  return new CustomStage('own.in', {
    name: 'own',
    at: 'events',
    inputs: ['in'],
    needs: [],
    adds: new Map(Object.entries(adds)),
    settings,
    module,
  })
}

const marked = (batch: Batch, mark = 'x'): Batch => withColumns(batch, [['mark', text(batch.meta.ids.map(() => mark))]])

describe('a stage of one’s own', () => {
  test('is given the rows, its settings and how it is called, and gives its rows on', async () => {
    const seen: unknown[] = []
    const module = defineStage<{ mark: string }>({
      adds,
      process: (batch, call) => {
        seen.push(call.settings.mark, call.mode, call.signal.aborted)
        return marked(batch, call.settings.mark)
      },
    })
    const settings = { mark: 'm' }
    const definition = { name: 'own', at: 'events', inputs: ['in'], needs: [], adds: new Map(), settings } as const
    const stage = new CustomStage('own.in', { ...definition, module: module as unknown as StageModule })
    const { outputs, failures } = await stage.process(rows(['a', 'b']), stream)
    expect([seen, failures, outputs.get('rows')!.columns.get('mark')]).toEqual([['m', 'stream', false], [], text(['m', 'm'])])
  })

  test('may leave failed rows in its batch, or out of it', async () => {
    const failures = [{ row: 1, error: new Error('no b') }]
    for (const process of [
      (batch: Batch) => ({ batch: marked(batch), failures }),
      (batch: Batch) => ({ batch: marked(takeRows(batch, [0, 2])), failures }),
    ]) {
      const result = await stageOf(process).process(rows(['a', 'b', 'c']), stream)
      expect(result.outputs.get('rows')!.meta.ids).toEqual(['a', 'c'])
      expect(result.failures).toMatchObject([{ row: 1, error: { code: 'INVALID_ARGUMENT', message: 'no b' } }])
    }
    const all = await stageOf((batch) => ({
      batch,
      failures: batch.meta.ids.map((_, row) => ({ row, error: new Error('none') })),
    })).process(rows(['a']), stream)
    expect([all.outputs.size, all.failures.length]).toEqual([0, 1])
  })

  test.each<[string, (batch: Batch) => unknown, RegExp]>([
    ['loses a row', (batch) => marked(takeRows(batch, [0])), /was given 2 rows, and gave 1 back with 0 failures/],
    ['gives nothing', () => undefined, /gave neither a batch nor/],
    ['lacks the column that it adds', (batch) => batch, /adds column "mark" as BYTES \[rows\], and gave none/],
    ['gives a column of another length', (batch) => withColumns(batch, [['mark', text(['x'])]]), /gave column "mark" with 1 values/],
    [
      'gives a column of another type',
      (batch) =>
        withColumns(batch, [
          ['mark', batch.columns.get('event')!],
          ['mark', { datatype: 'FP64', shape: [2], data: new Float64Array(2) }],
        ]),
      /gave FP64/,
    ],
    [
      'fails a row that there is not',
      (batch) => ({ batch: marked(batch), failures: [{ row: 2, error: new Error('x') }] }),
      /failed row 2: expected/,
    ],
    [
      'fails a row twice',
      (batch) => ({ batch: marked(batch), failures: [0, 0].map((row) => ({ row, error: new Error('x') })) }),
      /failed row 0: expected each row once/,
    ],
  ])('that %s is at fault, and says so', async (_, process, message) => {
    await expect(stageOf(process as (batch: Batch) => StageModuleResult).process(rows(['a', 'b']), stream)).rejects.toThrow(message)
  })

  test('that throws a transient error is tried again with the whole slice, after any other the row is found', async () => {
    const runner = (error: Error): StageRunner =>
      new StageRunner({
        stage: stageOf((batch) => {
          if (batch.meta.ids.includes('b')) throw error
          return marked(batch)
        }),
        exits: new Map([['rows', { kind: 'sink', sink: 'out' }]]),
        observer,
      })
    await expect(runner(new MeshError('UNAVAILABLE', 'away')).run(rows(['a', 'b']), stream)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const { outputs, failures } = await runner(new TypeError('no b')).run(rows(['a', 'b', 'c']), stream)
    expect(outputs.get('out')!.meta.ids).toEqual(['a', 'c'])
    expect(failures).toMatchObject([{ stage: 'own.in', batch: { rowCount: 1 }, errors: [{ code: 'INTERNAL', message: 'no b' }] }])
  })
})
