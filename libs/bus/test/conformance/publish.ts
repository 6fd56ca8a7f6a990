import { describe, expect, test } from 'vitest'
import { keyPartition, noRecords, recordsOf } from '../../src/records.ts'
import { type MakeHarness, readRows, useFixture, valuesOf } from './fixture.ts'

export function publishTests(makeHarness: MakeHarness): void {
  describe('publish and topics', () => {
    const fixture = useFixture(makeHarness)

    test('each record gets a position, in the order given, ascending within its partition', async () => {
      const topic = await fixture.topic('positions', 3)
      const rows = Array.from({ length: 300 }, (_, i) => ({ key: `customer-${i % 17}`, value: `${i}` }))
      const positions = await fixture.bus.publish(topic, recordsOf(rows))
      expect(positions).toHaveLength(300)
      const read = new Map((await readRows(fixture.bus, topic, 300)).map((row) => [`${row.partition}/${row.offset}`, row.value]))
      expect(positions.map((at) => read.get(`${at.partition}/${at.offset}`))).toEqual(rows.map((row) => row.value))
      for (let partition = 0; partition < 3; partition++) {
        const offsets = positions.filter((at) => at.partition === partition).map((at) => at.offset)
        expect(offsets).toEqual(offsets.toSorted((a, b) => Number(a - b)))
        expect(new Set(offsets).size).toBe(offsets.length)
      }
    })

    test('a key decides the partition as in Java’s client; records without one spread over all', async () => {
      const topic = await fixture.topic('partitions', 4)
      const keyed = Array.from({ length: 50 }, (_, i) => ({ key: `k${i}`, value: 'v' }))
      const positions = await fixture.bus.publish(topic, recordsOf(keyed))
      expect(positions.map((at) => at.partition)).toEqual(keyed.map((row) => keyPartition(new TextEncoder().encode(row.key), 4)))
      const spread = await fixture.bus.publish(topic, recordsOf(Array.from({ length: 8 }, () => ({ value: 'v' }))))
      expect(spread.map((at) => at.partition).toSorted((a, b) => a - b)).toEqual([0, 0, 1, 1, 2, 2, 3, 3])
      const aimed = await fixture.bus.publish(topic, recordsOf(keyed), 2)
      expect(aimed.every(({ partition }) => partition === 2)).toBe(true)
      await expect(fixture.bus.publish(topic, recordsOf(keyed), 9)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      const empty = await fixture.bus.publish(topic, recordsOf(Array.from({ length: 4 }, () => ({ key: '', value: 'v' }))))
      expect(new Set(empty.map((at) => at.partition)).size).toBe(4)
    })

    test('keys, values, headers and timestamps survive byte for byte', async () => {
      const topic = await fixture.topic('content')
      const binary = Uint8Array.from({ length: 256 }, (_, i) => i)
      const before = Date.now()
      await fixture.bus.publish(
        topic,
        recordsOf([
          {
            key: 'ключ',
            value: 'значение',
            headers: { traceparent: '00-1-2-01', ce_note: 'ü✓', empty: '' },
            timestampMs: 1_522_540_800_123,
          },
          { value: '' },
          { key: binary, value: binary, timestampMs: 0 },
          { key: 'k', value: '', headers: { one: '1' } },
        ]),
      )
      await fixture.bus.publish(topic, recordsOf([{ value: 'alone' }]))
      const stop = new AbortController()
      const slices = []
      let count = 0
      for await (const slice of fixture.bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 10, signal: stop.signal })) {
        slices.push(slice)
        count += slice.records.count
        if (count === 5) break
      }
      const rows = (await readRows(fixture.bus, topic, 5)).map(({ key, value, headers, timestampMs }) => ({
        key,
        value,
        headers: headers ?? {},
        timestampMs,
      }))
      expect(rows[0]).toEqual({
        key: 'ключ',
        value: 'значение',
        headers: { traceparent: '00-1-2-01', ce_note: 'ü✓', empty: '' },
        timestampMs: 1_522_540_800_123,
      })
      expect(rows[1]).toMatchObject({ key: '', value: '', headers: {} })
      expect(rows[2]!.timestampMs).toBe(0)
      expect(rows[3]).toMatchObject({ key: 'k', value: '', headers: { one: '1' } })
      for (const stamped of [rows[1]!, rows[3]!, rows[4]!]) {
        expect(stamped.timestampMs).toBeGreaterThanOrEqual(before - 1000)
        expect(stamped.timestampMs).toBeLessThanOrEqual(Date.now() + 1000)
      }
      const whole = slices.find((slice) => slice.records.count >= 3)!
      expect(Buffer.from(whole.records.values.bytes.subarray(whole.records.values.offsets[2], whole.records.values.offsets[3]))).toEqual(
        Buffer.from(binary),
      )
      const keys = whole.records.keys!
      expect(Buffer.from(keys.bytes.subarray(keys.offsets[2], keys.offsets[3]))).toEqual(Buffer.from(binary))
    })

    test('calls side by side keep the order of each call', async () => {
      const topic = await fixture.topic('side-by-side')
      await Promise.all(
        Array.from({ length: 20 }, (_, call) =>
          fixture.bus.publish(topic, recordsOf(Array.from({ length: 10 }, (_, i) => ({ value: `${call}/${i}` })))),
        ),
      )
      const values = valuesOf(await readRows(fixture.bus, topic, 200))
      expect(new Set(values).size).toBe(200)
      for (let call = 0; call < 20; call++)
        expect(values.filter((value) => value.startsWith(`${call}/`))).toEqual(Array.from({ length: 10 }, (_, i) => `${call}/${i}`))
    })

    test('no records are no error', async () => {
      expect(await fixture.bus.publish(await fixture.topic('nothing'), noRecords)).toEqual([])
    })

    test('an unknown topic is NOT_FOUND', async () => {
      const unknown = fixture.unique('unknown')
      await expect(fixture.bus.publish(unknown, recordsOf([{ value: 'v' }]))).rejects.toMatchObject({
        code: 'NOT_FOUND',
        message: expect.stringContaining(unknown),
      })
      expect(await fixture.bus.topics.describe(unknown)).toBeUndefined()
    })

    test('a record over the limit is INVALID_ARGUMENT, and its neighbours are not written', async () => {
      const topic = await fixture.topic('oversize')
      const records = recordsOf([{ value: 'small' }, { value: new Uint8Array(fixture.bus.maxRecordBytes + 1) }])
      await expect(fixture.bus.publish(topic, records)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'records[1]' })
      const headers = { large: 'x'.repeat(fixture.bus.maxRecordBytes) }
      await expect(fixture.bus.publish(topic, recordsOf([{ value: 'v', headers }]))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      await fixture.bus.publish(topic, recordsOf([{ value: 'next' }]))
      expect(valuesOf(await readRows(fixture.bus, topic, 1))).toEqual(['next'])
    })

    test('a record at the limit is taken and read back whole', async () => {
      const topic = await fixture.topic('full-size')
      const value = new Uint8Array(fixture.bus.maxRecordBytes).fill(97)
      await fixture.bus.publish(topic, recordsOf([{ value }]))
      const [row] = await readRows(fixture.bus, topic, 1)
      expect(row!.value.length).toBe(value.length)
    })

    test('ensure creates, leaves what exists, and refuses another count of partitions', async () => {
      const name = fixture.unique('ensured')
      const { topics } = fixture.bus
      expect(await topics.describe(name)).toBeUndefined()
      await topics.ensure([{ name, partitions: 3 }])
      await fixture.bus.publish(name, recordsOf([{ value: 'kept' }]))
      await topics.ensure([{ name, partitions: 3, retentionMs: 3_600_000 }])
      expect(await topics.describe(name)).toEqual({ name, partitions: 3 })
      expect(await topics.list()).toContainEqual({ name, partitions: 3 })
      expect(valuesOf(await readRows(fixture.bus, name, 1))).toEqual(['kept'])
      const error = await topics.ensure([{ name, partitions: 4 }]).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'FAILED_PRECONDITION', message: expect.stringContaining(name) })
    })

    test('offsets tell the earliest and the next', async () => {
      const topic = await fixture.topic('offsets', 2)
      expect(await fixture.bus.topics.offsets(topic)).toEqual([0, 1].map((partition) => ({ partition, earliest: 0n, end: 0n })))
      const positions = await fixture.bus.publish(topic, recordsOf(Array.from({ length: 9 }, () => ({ key: 'one-key', value: 'v' }))))
      const { partition, offset } = positions.at(-1)!
      const offsets = await fixture.bus.topics.offsets(topic)
      expect(offsets[partition]).toEqual({ partition, earliest: 0n, end: offset + 1n })
      expect(offsets[1 - partition]).toEqual({ partition: 1 - partition, earliest: 0n, end: 0n })
      await expect(fixture.bus.topics.offsets(fixture.unique('unknown'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    })
  })
}
