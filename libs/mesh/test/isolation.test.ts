import type { Attempt } from '@spillway/bus'
import type { Batch, RunResult } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { Isolation } from '../src/isolation.ts'
import { noteOf, suspicionOf } from '../src/suspicion.ts'
import { never, rows, telemetry } from './fixture.ts'

const ids = ['a', 'b', 'c', 'd']
const { logger } = telemetry
const answered = (batch: Batch): RunResult => ({ outputs: new Map([['out', batch]]), failures: [] })
/** Of a process that ended while it tried all four rows. */
const died = noteOf('another', suspicionOf(undefined, ''), [0, ids.length])

/** An attempt whose notes are kept here. */
function attemptOf(known: Partial<Attempt>): { readonly attempt: Attempt; readonly kept: string[] } {
  const kept: string[] = []
  const keepNote = async (note: string): Promise<void> => void kept.push(note)
  return { kept, attempt: { takenOver: false, note: undefined, maxRecordBytes: () => Infinity, keepNote, ...known } }
}

/** What the note blames its process for, should it end now. */
const blamed = (note: string | undefined): unknown => suspicionOf(note, 'who comes next').range

function isolate(isolation: Isolation, attempt: Attempt, run: (batch: Batch) => Promise<RunResult>): Promise<RunResult> {
  return isolation.run({ batch: rows(ids), firstRow: 0, attempt, stage: 'stage', signal: never, run })
}

describe('rows of a partition', () => {
  test('that this process has had before are tried without a note', async () => {
    const { attempt, kept } = attemptOf({})
    await isolate(new Isolation({ logger }), attempt, async (batch) => answered(batch))
    expect(kept).toEqual([])
  })

  test('that was taken over are noted before they are tried; the commit drops the note', async () => {
    const { attempt, kept } = attemptOf({ takenOver: true })
    let noted: unknown
    await isolate(new Isolation({ logger }), attempt, async (batch) => {
      noted = blamed(kept[0])
      return answered(batch)
    })
    expect([noted, kept.length]).toEqual([[0, 4], 1])
  })

  test('that fail are nobody’s death: the note is let go, and the failure thrown', async () => {
    const { attempt, kept } = attemptOf({ takenOver: true })
    await expect(isolate(new Isolation({ logger }), attempt, () => Promise.reject(new Error('away')))).rejects.toThrow('away')
    expect(kept.map(blamed)).toEqual([[0, 4], undefined])
  })

  test('that wait for something longer than a crash takes are no longer blamed, while they go on waiting', async () => {
    const { attempt, kept } = attemptOf({ takenOver: true })
    const answer = Promise.withResolvers<RunResult>()
    const result = isolate(new Isolation({ logger, patienceMs: 20 }), attempt, () => answer.promise)
    await expect.poll(() => kept.map(blamed)).toEqual([[0, 4], undefined])
    answer.resolve(answered(rows(ids)))
    expect((await result).outputs.get('out')!.meta.ids).toEqual(ids)
  })
})

describe('rows that somebody died over', () => {
  test('of all segments are tried one part at a time, so that a death is that part’s', async () => {
    const isolation = new Isolation({ logger })
    let trying = 0
    const most: number[] = []
    const segments = [1, 2].map(() =>
      isolate(isolation, attemptOf({ note: died }).attempt, async (batch) => {
        most.push(++trying)
        await new Promise(setImmediate)
        trying--
        return answered(batch)
      }),
    )
    for (const { outputs } of await Promise.all(segments)) expect(outputs.get('out')!.meta.ids).toEqual(ids)
    expect(most).toEqual(Array.from({ length: 8 }, () => 1))
  })

  test('give their turn to others while they wait for something', async () => {
    const isolation = new Isolation({ logger, patienceMs: 20 })
    const answer = Promise.withResolvers<RunResult>()
    const waiting = isolate(isolation, attemptOf({ note: died }).attempt, () => answer.promise)
    const other = await isolate(isolation, attemptOf({ note: died }).attempt, async (batch) => answered(batch))
    expect(other.outputs.get('out')!.rowCount).toBe(4)
    answer.resolve({ outputs: new Map(), failures: [] })
    await waiting
  })

  test('are not tried where that cannot be noted, and hold no one else up', async () => {
    const isolation = new Isolation({ logger })
    let tried = 0
    const fenced = attemptOf({ note: died, keepNote: () => Promise.reject(new Error('fenced')) })
    const run = async (batch: Batch): Promise<RunResult> => (tried++, answered(batch))
    await expect(isolate(isolation, fenced.attempt, run)).rejects.toThrow('fenced')
    expect(tried).toBe(0)
    await isolate(isolation, attemptOf({ note: died }).attempt, run)
    expect(tried).toBe(4)
  })
})
