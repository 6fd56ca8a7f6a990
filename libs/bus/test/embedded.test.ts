import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EmbeddedBus, type EmbeddedBusOptions } from '../src/embedded/embedded-bus.ts'
import type { ProcessOptions } from '../src/port.ts'
import { recordsOf } from '../src/records.ts'
import { copyTo, fill, gate, readAll, sliceRows, until, valuesOf } from './conformance/fixture.ts'

const signal = AbortSignal.timeout(600_000)
const limits = { from: 'earliest', maxSliceRecords: 100, maxSliceBytes: 1 << 20, concurrency: 4 } as const

/** Processes until the group has no lag, and gives the values it was offered. */
async function offered(bus: EmbeddedBus, options: Pick<ProcessOptions, 'topics' | 'group' | 'stamp'>): Promise<string[]> {
  const values: string[] = []
  const processor = bus.process({ ...limits, ...options }, (slice) => {
    values.push(...valuesOf(sliceRows(slice)))
    return Promise.resolve({ writes: [] })
  })
  await processor.start(signal)
  await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'no lag')
  await processor.drain()
  return values
}

describe('embedded bus', () => {
  let folder: string
  let path: string
  let buses: EmbeddedBus[]

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'spillway-bus-'))
    path = join(folder, 'bus.db')
    buses = []
  })
  afterEach(async () => {
    await Promise.all(buses.map((bus) => bus.drain()))
    rmSync(folder, { recursive: true })
  })

  async function open(options: Partial<EmbeddedBusOptions> = {}): Promise<EmbeddedBus> {
    const bus = new EmbeddedBus({ path, ...options })
    buses.push(bus)
    await bus.start(signal)
    return bus
  }

  test('topics, records, positions and offsets are there after a restart', async () => {
    const first = await open()
    await first.topics.ensure([{ name: 'events', partitions: 2 }])
    await fill(first, 'events', 2, 10)
    expect(await offered(first, { topics: ['events'], group: 'g' })).toHaveLength(20)
    await first.drain()
    const second = await open()
    expect(await second.topics.list()).toEqual([{ name: 'events', partitions: 2 }])
    await fill(second, 'events', 2, 1, 10)
    expect((await offered(second, { topics: ['events'], group: 'g' })).toSorted()).toEqual(['p0-10', 'p1-10'])
    expect(await readAll(second, 'events')).toHaveLength(22)
  })

  test('a file of before positions had stamps is taken on', async () => {
    const first = await open()
    await first.topics.ensure([{ name: 'events', partitions: 1 }])
    await fill(first, 'events', 1, 10)
    await offered(first, { topics: ['events'], group: 'g' })
    await fill(first, 'events', 1, 5, 10)
    await first.drain()
    const database = new DatabaseSync(path)
    database.exec('ALTER TABLE bus_positions DROP COLUMN stamp')
    database.close()
    const second = await open()
    expect(await offered(second, { topics: ['events'], group: 'g', stamp: 'store-1' })).toEqual([
      'p0-10',
      'p0-11',
      'p0-12',
      'p0-13',
      'p0-14',
    ])
    expect(await offered(second, { topics: ['events'], group: 'g', stamp: 'store-1' })).toEqual([])
  })

  test('retention by size keeps at least that much, drops the oldest, and a group that is behind starts at the earliest', async () => {
    const bus = await open({ retentionSweepMs: 10 })
    await bus.topics.ensure([
      { name: 'small', partitions: 1, retentionBytes: 100_000 },
      { name: 'kept', partitions: 1 },
    ])
    const behind = { topics: ['small'], group: 'behind' }
    await offered(bus, behind)
    for (let i = 0; i < 100; i++) {
      await bus.publish('small', recordsOf([{ value: `${i} `.padEnd(10_000, '.') }]))
      await bus.publish('kept', recordsOf([{ value: `${i} `.padEnd(10_000, '.') }]))
    }
    await until(async () => (await bus.topics.offsets('small'))[0]!.earliest >= 90n, 'the oldest to be dropped')
    expect(await bus.topics.offsets('small')).toEqual([{ partition: 0, earliest: 90n, end: 100n }])
    expect(await bus.topics.offsets('kept')).toEqual([{ partition: 0, earliest: 0n, end: 100n }])
    expect((await offered(bus, behind)).map((value) => Number.parseInt(value))).toEqual([90, 91, 92, 93, 94, 95, 96, 97, 98, 99])
  })

  test('retention by age counts from acceptance, also at start; offsets go on after everything was dropped', async () => {
    let nowMs = 1_000_000_000_000
    const clock = { nowMs: () => nowMs }
    const first = await open({ clock, retentionSweepMs: 5 })
    await first.topics.ensure([{ name: 'aging', partitions: 1, retentionMs: 60_000 }])
    await first.publish('aging', recordsOf([{ value: 'old event', timestampMs: 1 }]))
    nowMs += 50_000
    await first.publish('aging', recordsOf([{ value: 'later' }]))
    nowMs += 20_000
    await until(async () => (await first.topics.offsets('aging'))[0]!.earliest === 1n, 'the first record to age')
    expect(valuesOf(await readAll(first, 'aging'))).toEqual(['later'])
    await first.drain()
    nowMs += 1_000_000
    const second = await open({ clock, retentionSweepMs: 3_600_000 })
    await until(async () => (await second.topics.offsets('aging'))[0]!.earliest === 3n, 'all to be dropped at start')
    expect(await second.publish('aging', recordsOf([{ value: 'new' }]))).toEqual([{ partition: 0, offset: 3n }])
    expect(valuesOf(await readAll(second, 'aging'))).toEqual(['new'])
  })

  test('a burst past the size limit does not wait for the sweep', async () => {
    const bus = await open({ retentionSweepMs: 3_600_000 })
    await bus.topics.ensure([{ name: 'burst', partitions: 1, retentionBytes: 1 << 20 }])
    for (let i = 0; i < 40; i++) await bus.publish('burst', recordsOf([{ value: new Uint8Array(200_000) }]))
    await until(async () => (await bus.topics.offsets('burst'))[0]!.earliest > 10n, 'the oldest to be dropped')
  })

  test('one group is processed once at a time', async () => {
    const bus = await open()
    await bus.topics.ensure([{ name: 'events', partitions: 1 }])
    const first = bus.process({ topics: ['events'], group: 'g', ...limits }, copyTo('events'))
    await first.start(signal)
    const second = bus.process({ topics: ['events'], group: 'g', ...limits }, copyTo('events'))
    await expect(second.start(signal)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', field: 'group' })
    await first.drain()
    await bus.process({ topics: ['events'], group: 'g', ...limits }, copyTo('events')).start(signal)
  })

  test('more than may wait is RESOURCE_EXHAUSTED; what was taken is written', async () => {
    const bus = await open({ maxPendingBytes: 50_000 })
    await bus.topics.ensure([{ name: 'events', partitions: 1 }])
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () => bus.publish('events', recordsOf([{ value: new Uint8Array(10_000) }]))),
    )
    const refused = results.filter((result) => result.status === 'rejected')
    expect(refused.length).toBeGreaterThan(5)
    for (const result of refused) expect(result.reason).toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
    expect(await readAll(bus, 'events')).toHaveLength(20 - refused.length)
    await bus.publish('events', recordsOf([{ value: 'room again' }]))
  })

  test('another connection of the process writes to the same file', async () => {
    const bus = await open()
    await bus.topics.ensure([{ name: 'events', partitions: 1 }])
    const other = new DatabaseSync(path, { timeout: 5000 })
    other.exec('CREATE TABLE histories (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID')
    const put = other.prepare('INSERT OR REPLACE INTO histories VALUES (?, ?)')
    for (let i = 0; i < 50; i++) {
      const published = bus.publish('events', recordsOf([{ value: `${i}` }]))
      put.run(`k${i}`, new Uint8Array(10))
      await published
    }
    expect(other.prepare('SELECT count(*) AS n FROM histories').get()).toEqual({ n: 50 })
    other.close()
    expect(await readAll(bus, 'events')).toHaveLength(50)
  })

  test('a record published is handed on at once, without polling', async () => {
    const bus = await open({ durability: 'process-kill' })
    await bus.topics.ensure([{ name: 'events', partitions: 1 }])
    let arrived = gate()
    await bus
      .process({ topics: ['events'], group: 'g', ...limits }, () => {
        arrived.open()
        return Promise.resolve({ writes: [] })
      })
      .start(signal)
    const latenciesMs: number[] = []
    for (let i = 0; i < 50; i++) {
      arrived = gate()
      const begun = performance.now()
      await bus.publish('events', recordsOf([{ value: 'v' }]))
      await arrived.opened
      latenciesMs.push(performance.now() - begun)
    }
    expect(latenciesMs.toSorted((a, b) => a - b)[25]).toBeLessThan(10)
  })

  test('groupLags tells the depth of every queue', async () => {
    const bus = await open()
    await bus.topics.ensure([{ name: 'events', partitions: 1 }])
    await fill(bus, 'events', 1, 10)
    await offered(bus, { topics: ['events'], group: 'g' })
    await fill(bus, 'events', 1, 5, 10)
    expect(bus.groupLags()).toEqual([{ group: 'g', topic: 'events', partition: 0, committedOffset: 10n, endOffset: 15n }])
  })

  test('what is no bus file is refused', async () => {
    writeFileSync(path, 'these are a few words and no database, long enough to fill a header of a hundred bytes or so, I hope')
    await expect(open()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message: expect.stringContaining(path) })
  })

  test('before start and after drain, calls are UNAVAILABLE; topic names and counts are checked', async () => {
    const early = new EmbeddedBus({ path })
    await expect(early.publish('t', recordsOf([{ value: 'v' }]))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await early.drain()
    const bus = await open()
    await expect(bus.topics.ensure([{ name: 'no/slash', partitions: 1 }])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'name',
    })
    await expect(bus.topics.ensure([{ name: 'none', partitions: 0 }])).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'partitions',
    })
    await bus.drain()
    await expect(bus.topics.list()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})
