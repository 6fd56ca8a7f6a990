import { describe, expect, test } from 'vitest'
import type { Attempt, Handler } from '../../src/port.ts'
import { copyTo, fill, type MakeHarness, readAll, until, useFixture, valuesOf } from './fixture.ts'

export function noteTests(makeHarness: MakeHarness): void {
  describe('notes', () => {
    const fixture = useFixture(makeHarness)
    const seen = (attempt: Attempt): readonly [boolean, string | undefined] => [attempt.takenOver, attempt.note]

    test('are kept until a commit; until then, the partition counts as taken over', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      await fill(fixture.bus, input, 1, 3)
      const attempts: (readonly [boolean, string | undefined])[] = []
      const handle: Handler = async (slice, signal, attempt) => {
        attempts.push(seen(attempt))
        if (attempts.length === 2) await attempt.keepNote('one')
        if (attempts.length === 3) {
          await attempt.keepNote('two')
          await attempt.keepNote('three')
        }
        if (attempts.length < 4) throw new Error('not yet')
        return { ...(await copyTo(output)(slice, signal)), consumed: 3 }
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { stamp: 'store' })
      const committed = async (offset: bigint): Promise<void> =>
        until(async () => (await processor.lags())[0]!.committedOffset === offset, `offset ${offset}`)
      await committed(3n)
      await fill(fixture.bus, input, 1, 1, 3)
      await until(() => attempts.length === 5, 'the next slice')
      expect(attempts).toEqual([
        [true, undefined],
        [true, undefined],
        [true, 'one'],
        [true, 'three'],
        [false, undefined],
      ])
      expect(valuesOf(await readAll(fixture.bus, output)).slice(0, 3)).toEqual(['p0-0', 'p0-1', 'p0-2'])
    })

    test('of a handler that does not end in time are dropped by a drain: they speak for processes that died', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      const group = fixture.unique('group')
      await fill(fixture.bus, input, 1, 3)
      let kept = false
      const stuck: Handler = async (_slice, signal, attempt) => {
        await attempt.keepNote('here')
        kept = true
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        throw new Error('given up')
      }
      const first = await fixture.processor([input], group, stuck, { drainGraceMs: 50 })
      await until(() => kept, 'the note')
      await first.drain()
      const attempts: (readonly [boolean, string | undefined])[] = []
      const second = await fixture.processor([input], group, async (slice, signal, attempt) => {
        attempts.push(seen(attempt))
        return copyTo(output)(slice, signal)
      })
      await until(async () => (await second.lags())[0]!.committedOffset === 3n, 'the next processor')
      expect(attempts[0]).toEqual([true, undefined])
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual(['p0-0', 'p0-1', 'p0-2'])
    })

    test('are found with all that the process before may have tried: the first slice is as long as the log and the limits allow', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      for (let first = 0; first < 3000; first += 300) await fill(fixture.bus, input, 1, 300, first)
      // A record has 9 to 12 bytes.
      for (const [options, least, most] of [
        [{ maxSliceRecords: 5000 }, 3000, 3000],
        [{ maxSliceRecords: 1700 }, 1700, 1700],
        [{ maxSliceRecords: 5000, maxSliceBytes: 12_000 }, 1000, 1334],
      ] as const) {
        const sizes: number[] = []
        const handle: Handler = async (slice, signal) => {
          sizes.push(slice.records.count)
          return copyTo(output)(slice, signal)
        }
        const processor = await fixture.processor([input], fixture.unique('group'), handle, options)
        await until(() => sizes.length > 0, 'the first slice')
        await processor.drain()
        expect(sizes[0]).toBeGreaterThanOrEqual(least)
        expect(sizes[0]).toBeLessThanOrEqual(most)
      }
    })

    test('that are too long, or of several lines, are refused', async () => {
      const input = await fixture.topic('in')
      await fill(fixture.bus, input, 1, 1)
      const refusals: unknown[] = []
      await fixture.processor([input], fixture.unique('group'), async (_slice, _signal, attempt) => {
        for (const note of ['n'.repeat(1001), 'two\nlines']) await attempt.keepNote(note).catch((error: unknown) => refusals.push(error))
        return { writes: [] }
      })
      await until(() => refusals.length === 2, 'the refusals')
      expect(refusals).toMatchObject([{ code: 'INVALID_ARGUMENT' }, { code: 'INVALID_ARGUMENT' }])
    })
  })
}
