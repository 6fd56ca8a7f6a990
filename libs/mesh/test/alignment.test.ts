import { systemClock } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { Alignment } from '../src/alignment.ts'

const day = 86_400_000
const never = new AbortController().signal
const times = (...days: number[]): Float64Array => Float64Array.from(days, (value) => value * day)

function aligned(idleMs = 60_000): Alignment {
  return new Alignment({ maxSkewMs: 7 * day, idleMs, clock: systemClock })
}

async function admitted(alignment: Alignment, lane: string, eventTimesMs: Float64Array): Promise<number> {
  return (await alignment.admit(lane, eventTimesMs, never)).rowCount
}

/** The lane has a row of this time, and processes it. */
function comesTo(alignment: Alignment, lane: string, timeMs: number): void {
  alignment.offer(lane, Float64Array.of(timeMs)).admission!.done(timeMs)
}

/** Whether a promise is settled once all that is ready has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending')
  const next = new Promise((resolve) => setImmediate(resolve, pending))
  return (await Promise.race([promise, next])) !== pending
}

describe('Alignment', () => {
  test('rows within maxSkew of the lane furthest behind go on, those further ahead wait', async () => {
    const alignment = aligned()
    alignment.add('labels/0')
    comesTo(alignment, 'labels/0', 10 * day)
    expect(await admitted(alignment, 'transactions/0', times(11, 12, 17, 17.5, 20))).toBe(3)
  })

  test('a lane near its limit waits until it can take a good piece, not row by row', async () => {
    const alignment = aligned()
    alignment.add('labels/0')
    comesTo(alignment, 'labels/0', 10 * day)
    const waiting = admitted(alignment, 'transactions/0', times(16, 17, 18, 19, 20, 21))
    expect(await settled(waiting)).toBe(false)
    comesTo(alignment, 'labels/0', 12 * day)
    expect(await settled(waiting)).toBe(false)
    comesTo(alignment, 'labels/0', 12.5 * day)
    expect(await waiting).toBe(4)
  })

  test('waiting rows go on when the lane behind comes up', async () => {
    const alignment = aligned()
    alignment.add('labels/0')
    comesTo(alignment, 'labels/0', 1 * day)
    const waiting = admitted(alignment, 'transactions/0', times(9, 10, 20))
    expect(await settled(waiting)).toBe(false)
    comesTo(alignment, 'labels/0', 6 * day)
    expect(await waiting).toBe(2)
  })

  test('a lane that holds rows is as far as its first one, so two that are ahead of each other never stand still', async () => {
    const alignment = aligned()
    const first = admitted(alignment, 'a', times(0))
    expect(await first).toBe(1)
    alignment.add('b')
    const second = admitted(alignment, 'a', times(30))
    expect(await settled(second)).toBe(false)
    expect(await admitted(alignment, 'b', times(25))).toBe(1)
    expect(await second).toBe(1)
  })

  test('an idle lane holds nobody', async () => {
    const alignment = aligned(50)
    alignment.add('labels/0')
    alignment.markBacklog('labels/0', false)
    expect(await admitted(alignment, 'transactions/0', times(100))).toBe(1)
  })

  test('a lane of whose backlog nothing is known, or that has one, is not taken for an idle one', async () => {
    const alignment = aligned(20)
    alignment.add('labels/0')
    const waiting = admitted(alignment, 'transactions/0', times(100))
    const held = (): Promise<unknown> => Promise.race([waiting, new Promise((resolve) => setTimeout(resolve, 100, 'held'))])
    expect(await held()).toBe('held')
    alignment.markBacklog('labels/0', true)
    expect(await held()).toBe('held')
    alignment.markBacklog('labels/0', false)
    expect(await waiting).toBe(1)
  })

  test('an event ahead of the clock counts as one of now', async () => {
    const alignment = aligned()
    const now = Date.now() / day
    alignment.add('labels/0')
    comesTo(alignment, 'labels/0', (now - 1) * day)
    expect(await admitted(alignment, 'transactions/0', times(now + 100))).toBe(1)
    comesTo(alignment, 'transactions/0', (now + 100) * day)
    expect(await admitted(alignment, 'labels/0', times(now))).toBe(1)
  })

  test('a lane that is given up holds nobody', async () => {
    const alignment = aligned()
    alignment.add('labels/0')
    const waiting = admitted(alignment, 'transactions/0', times(100))
    alignment.remove('labels/0')
    expect(await waiting).toBe(1)
  })

  test('what a halted handler says of a lane that came back is not said of the new one', async () => {
    const alignment = aligned(0)
    const { admission } = alignment.offer('labels/0', times(1))
    alignment.remove('labels/0')
    alignment.offer('labels/0', times(1))
    admission!.done(50 * day)
    alignment.markBacklog('labels/0', false)
    const waiting = admitted(alignment, 'transactions/0', times(20))
    expect(await settled(waiting)).toBe(false)
    alignment.close()
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  test('the signal ends the wait', async () => {
    const alignment = aligned()
    alignment.add('labels/0')
    const stopping = new AbortController()
    const waiting = alignment.admit('transactions/0', times(100), stopping.signal)
    stopping.abort()
    await expect(waiting).rejects.toThrow(/abort/i)
  })
})
