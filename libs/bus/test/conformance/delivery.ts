import { MeshError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import type { Handler, ProcessorEvent } from '../../src/port.ts'
import { recordsOf, sliceRecords } from '../../src/records.ts'
import { copyTo, fill, gate, type MakeHarness, readAll, until, useFixture, valuesOf } from './fixture.ts'

type Retrying = Extract<ProcessorEvent, { kind: 'retrying' }>

export function deliveryTests(makeHarness: MakeHarness): void {
  describe('delivery under failure', () => {
    const fixture = useFixture(makeHarness)

    test('a handler that throws is given the same slice again, with growing back-off, and says so', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      await fill(fixture.bus, input, 1, 10)
      const offered: string[] = []
      const retries: Retrying[] = []
      const handle: Handler = (slice, signal) => {
        offered.push([...slice.offsets].join())
        if (offered.length <= 3) return Promise.reject(new MeshError('UNAVAILABLE', `attempt ${offered.length}`))
        return copyTo(output)(slice, signal)
      }
      const options = { onEvent: (event: ProcessorEvent) => void (event.kind === 'retrying' && retries.push(event)) }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, options)
      await until(async () => (await processor.lags())[0]!.committedOffset === 10n, 'the fourth attempt')
      // How many of the records have come when the slice is cut is the bus's affair; what is offered again is the same.
      expect(offered[0]).toMatch(/^0,1/)
      expect(offered.slice(0, 4)).toEqual(new Array(4).fill(offered[0]))
      expect(retries.map((event) => event.attempt)).toEqual([1, 2, 3])
      for (const event of retries)
        expect(event).toMatchObject({ topic: input, partition: 0, error: { code: 'UNAVAILABLE', message: `attempt ${event.attempt}` } })
      expect(retries[0]!.delayMs).toBeGreaterThan(0)
      expect(retries[2]!.delayMs).toBeGreaterThan(retries[0]!.delayMs)
      expect(valuesOf(await readAll(fixture.bus, output))).toHaveLength(10)
    })

    test.each(['an unknown topic', 'a partition that is not there', 'an oversized record'])(
      'outputs with %s: none of them is visible, the slice is offered again',
      async (flaw) => {
        const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
        await fill(fixture.bus, input, 1, 3)
        const wrong = {
          'an unknown topic': { topic: fixture.unique('unknown'), records: recordsOf([{ value: 'v' }]) },
          'a partition that is not there': { topic: output, partition: 7, records: recordsOf([{ value: 'v' }]) },
          'an oversized record': { topic: output, records: recordsOf([{ value: new Uint8Array(fixture.bus.maxRecordBytes + 1) }]) },
        }[flaw]!
        const retries: Retrying[] = []
        let attempts = 0
        const handle: Handler = (slice) => {
          const right = { topic: output, partition: 0, records: slice.records }
          return Promise.resolve({ writes: ++attempts <= 2 ? [right, wrong] : [right] })
        }
        const options = { onEvent: (event: ProcessorEvent) => void (event.kind === 'retrying' && retries.push(event)) }
        const processor = await fixture.processor([input], fixture.unique('group'), handle, options)
        await until(async () => (await processor.lags())[0]!.committedOffset === 3n, 'the third attempt')
        expect(retries.length).toBe(2)
        expect(retries[0]!.error.code).toBe(flaw === 'an unknown topic' ? 'NOT_FOUND' : 'INVALID_ARGUMENT')
        expect(valuesOf(await readAll(fixture.bus, output))).toEqual(['p0-0', 'p0-1', 'p0-2'])
      },
    )

    test('a partition that fails does not hold up the others', async () => {
      const [input, output] = [await fixture.topic('in', 3), await fixture.topic('out', 3)]
      await fill(fixture.bus, input, 3, 20)
      const handle: Handler = (slice, signal) =>
        slice.partition === 1 ? Promise.reject(new MeshError('UNAVAILABLE', 'away')) : copyTo(output)(slice, signal)
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { concurrency: 1 })
      await until(async () => (await processor.lags()).filter((lag) => lag.committedOffset === 20n).length === 2, 'the other partitions')
      expect((await processor.lags()).find((lag) => lag.partition === 1)).toMatchObject({ committedOffset: 0n, endOffset: 20n })
      await processor.drain()
      expect((await readAll(fixture.bus, output)).filter((row) => row.partition === 1)).toEqual([])
    })

    test('drained in the middle, another goes on where it committed', async () => {
      const [input, output] = [await fixture.topic('in', 2), await fixture.topic('out', 2)]
      await fill(fixture.bus, input, 2, 100)
      const group = fixture.unique('group')
      let slices = 0
      let copied = 0
      const failing: Handler = (slice, signal) => {
        if (++slices > 6) return Promise.reject(new MeshError('INTERNAL', 'broken'))
        copied += slice.offsets.length
        return copyTo(output)(slice, signal)
      }
      const first = await fixture.processor([input], group, failing, { maxSliceRecords: 10 })
      await until(() => slices > 6, 'the failure')
      await first.drain()
      expect(await readAll(fixture.bus, output)).toHaveLength(copied)
      const second = await fixture.processor([input], group, copyTo(output), { maxSliceRecords: 10 })
      await until(async () => (await second.lags()).every((lag) => lag.committedOffset === 100n), 'the rest')
      const rows = await readAll(fixture.bus, output)
      for (const partition of [0, 1])
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: 100 }, (_, i) => `p${partition}-${i}`),
        )
    })

    test('drain finishes and commits what is in flight, takes no more, and may be called again', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      await fill(fixture.bus, input, 1, 20)
      const [begun, release] = [gate(), gate()]
      let slices = 0
      const handle: Handler = async (slice, signal) => {
        slices++
        begun.open()
        await release.opened
        expect(signal.aborted).toBe(false)
        return copyTo(output)(slice, signal)
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { maxSliceRecords: 10, drainGraceMs: 30_000 })
      await begun.opened
      const drained = Promise.all([processor.drain(), processor.drain()])
      release.open()
      await drained
      await processor.drain()
      expect(slices).toBe(1)
      expect(valuesOf(await readAll(fixture.bus, output))).toHaveLength(10)
    })

    test('drain without start is no error', async () => {
      const input = await fixture.topic('in')
      const limits = { maxSliceRecords: 1, maxSliceBytes: 100, concurrency: 1 }
      await fixture.bus.process({ topics: [input], group: fixture.unique('group'), from: 'earliest', ...limits }, copyTo(input)).drain()
    })

    test('past its grace a drain fires the handler’s signal, and what it still returns is not committed', async () => {
      const [input, output] = [await fixture.topic('in'), await fixture.topic('out')]
      await fill(fixture.bus, input, 1, 5)
      const group = fixture.unique('group')
      const [begun, release] = [gate(), gate()]
      let signalled: AbortSignal | undefined
      const stuck: Handler = async (slice, signal) => {
        signalled = signal
        begun.open()
        await release.opened
        return copyTo(output)(slice, signal)
      }
      const first = await fixture.processor([input], group, stuck, { drainGraceMs: 50 })
      await begun.opened
      await first.drain()
      expect(signalled!.aborted).toBe(true)
      release.open()
      const second = await fixture.processor([input], group, copyTo(output))
      await until(async () => (await second.lags())[0]!.committedOffset === 5n, 'the slice offered again')
      expect(valuesOf(await readAll(fixture.bus, output))).toEqual(Array.from({ length: 5 }, (_, i) => `p0-${i}`))
    })

    test('many records, random slices, prefixes and failures: the count is exact', async () => {
      const partitions = 4
      const [input, output] = [await fixture.topic('in', partitions), await fixture.topic('out', partitions)]
      const random = seeded(7)
      const handle: Handler = async (slice) => {
        if (random() < 0.05) throw new MeshError('UNAVAILABLE', 'now and then')
        await new Promise((resolve) => setImmediate(resolve))
        const consumed = 1 + Math.floor(random() * slice.records.count)
        return { writes: [{ topic: output, partition: slice.partition, records: sliceRecords(slice.records, 0, consumed) }], consumed }
      }
      const processor = await fixture.processor([input], fixture.unique('group'), handle, { maxSliceRecords: 400 })
      for (let first = 0; first < 2500; first += 500) await fill(fixture.bus, input, partitions, 500, first)
      await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === 2500n), 'all records', 35_000)
      const rows = await readAll(fixture.bus, output)
      for (let partition = 0; partition < partitions; partition++)
        expect(valuesOf(rows.filter((row) => row.partition === partition))).toEqual(
          Array.from({ length: 2500 }, (_, i) => `p${partition}-${i}`),
        )
    })
  })
}

/** Numerical Recipes' 32-bit linear congruential generator: the same failures in each run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32
}
