import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { MeshError } from '@spillway/core'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EmbeddedBus } from '../src/embedded/embedded-bus.ts'
import type { Handler, ProcessOptions, Processor, ProcessorEvent } from '../src/port.ts'
import { recordsOf, sliceRecords } from '../src/records.ts'
import { FileSource } from '../src/replay/file-source.ts'
import { ReplayBus, type ReplayBusOptions } from '../src/replay/replay-bus.ts'
import { TopicSource } from '../src/replay/topic-source.ts'
import { copyTo, fill, gate, sliceRows, until, valuesOf } from './conformance/fixture.ts'
import { linesOf, PartSink } from './replay-fixture.ts'

const signal = AbortSignal.timeout(600_000)
const limits = { from: 'earliest', maxSliceRecords: 10, maxSliceBytes: 1 << 20, concurrency: 4, drainGraceMs: 2000 } as const

describe('replay', { timeout: 40_000 }, () => {
  let folder: string
  let ends: (() => Promise<unknown>)[]

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'spillway-replay-'))
    ends = []
  })
  afterEach(async () => {
    for (const end of ends.toReversed()) await end()
    rmSync(folder, { recursive: true })
  })

  const place = (name: string): string => join(folder, name)

  function file(name: string, lines: readonly string[]): string {
    writeFileSync(place(name), lines.map((line) => `${line}\n`).join(''))
    return place(name)
  }

  const numbered = (count: number, prefix = 'r'): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

  /** A started bus with checkpoint and parts in the test's folder. */
  async function open(options: Partial<ReplayBusOptions> & Pick<ReplayBusOptions, 'sources'>): Promise<ReplayBus> {
    const bus = new ReplayBus({ sink: new PartSink(place('parts')), checkpointPath: place('checkpoint'), ...options })
    ends.push(() => bus.drain())
    await bus.start(signal)
    return bus
  }

  async function run(
    bus: ReplayBus,
    topics: readonly string[],
    handle: Handler,
    options: Partial<ProcessOptions> = {},
  ): Promise<Processor> {
    const processor = bus.process({ topics, group: 'g', ...limits, ...options }, handle)
    await processor.start(signal)
    return processor
  }

  const source = (topic: string, ...paths: readonly string[]): FileSource => new FileSource({ topic, paths })

  async function embedded(): Promise<EmbeddedBus> {
    const bus = new EmbeddedBus({ path: place('bus.db') })
    ends.push(() => bus.drain())
    await bus.start(signal)
    return bus
  }

  test('a file through a handler: each line once, in order, then done', async () => {
    const bus = await open({ sources: [source('in', file('a', numbered(95)))] })
    const events: string[] = []
    const processor = await run(bus, ['in'], copyTo('out'), { onEvent: (event) => events.push(event.kind) })
    await bus.done()
    expect(linesOf(place('parts'))).toEqual(numbered(95).map((line) => `out/0 ${line}`))
    expect(await processor.lags()).toEqual([{ topic: 'in', partition: 0, committedOffset: 95n, endOffset: 95n }])
    expect(events).toEqual(['assigned', 'revoked'])
    expect(bus.progress()).toMatchObject({ records: 95, partitions: [{ topic: 'in', records: 95, share: 1, finished: true }] })
  })

  test('a topic of another bus, to where it ended at the start, with all that records have', async () => {
    const live = await embedded()
    await live.topics.ensure([{ name: 'in', partitions: 3 }])
    await fill(live, 'in', 3, 40)
    await live.publish('in', recordsOf([{ key: 'k', value: 'last', headers: { a: 'b' }, timestampMs: 7 }]))
    const bus = await open({ sources: [new TopicSource(live, 'in')], partitions: 3 })
    await fill(live, 'in', 3, 5, 1000)
    const rows = new Map<number, ReturnType<typeof sliceRows>>([0, 1, 2].map((partition) => [partition, []]))
    const processor = await run(bus, ['in'], (slice) => {
      rows.get(slice.partition)!.push(...sliceRows(slice))
      return Promise.resolve({ writes: [] })
    })
    await bus.done()
    for (const [partition, read] of rows) expect(valuesOf(read).filter((value) => value !== 'last')).toEqual(numbered(40, `p${partition}-`))
    expect([...rows.values()].flat().find((row) => row.value === 'last')).toMatchObject({ key: 'k', headers: { a: 'b' }, timestampMs: 7 })
    expect((await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset)).toBe(true)
    expect(await bus.topics.describe('in')).toEqual({ name: 'in', partitions: 3 })
    expect(await bus.topics.describe('out')).toEqual({ name: 'out', partitions: 3 })
  })

  test('inputs of one processor run side by side, and an ended one is revoked at once', async () => {
    const bus = await open({
      sources: [source('long', file('a', numbered(200))), source('short', file('b', ['x'])), source('none', file('c', []))],
    })
    const revoked: string[] = []
    const release = gate()
    const onEvent = (event: ProcessorEvent): void => {
      if (event.kind === 'revoked') revoked.push(...event.partitions.map(({ topic }) => topic))
    }
    const handle: Handler = async (slice, signal) => {
      if (slice.topic === 'long') await release.opened
      return copyTo('out')(slice, signal)
    }
    const processor = await run(bus, ['long', 'short', 'none'], handle, { onEvent })
    await until(() => revoked.length === 2, 'the short ones to end')
    expect(revoked.toSorted()).toEqual(['none', 'short'])
    const lags = await processor.lags()
    expect(lags.filter((lag) => lag.endOffset > lag.committedOffset).map((lag) => lag.topic)).toEqual(['long'])
    release.open()
    await bus.done()
    expect(linesOf(place('parts'))).toHaveLength(201)
  })

  test('a handler that throws is given the same slice again, and says so; a prefix is taken and the rest offered first', async () => {
    const bus = await open({ sources: [source('in', file('a', numbered(12)))] })
    const offered: string[] = []
    const events: ProcessorEvent[] = []
    const handle: Handler = (slice) => {
      offered.push(valuesOf(sliceRows(slice)).join())
      if (offered.length <= 2) return Promise.reject(new MeshError('UNAVAILABLE', 'away'))
      return Promise.resolve({ writes: [{ topic: 'out', partition: 0, records: sliceRecords(slice.records, 0, 3) }], consumed: 3 })
    }
    await run(bus, ['in'], handle, { maxSliceRecords: 6, onEvent: (event) => events.push(event) })
    await bus.done()
    expect(offered.slice(0, 4)).toEqual(['r0,r1,r2,r3,r4,r5', 'r0,r1,r2,r3,r4,r5', 'r0,r1,r2,r3,r4,r5', 'r3,r4,r5'])
    expect(linesOf(place('parts'))).toEqual(numbered(12).map((line) => `out/0 ${line}`))
    expect(events.filter((event) => event.kind === 'retrying')).toMatchObject([
      { topic: 'in', partition: 0, attempt: 1, error: { code: 'UNAVAILABLE' } },
      { topic: 'in', partition: 0, attempt: 2 },
    ])
  })

  test('drained in the middle, the next run goes on where it was, and a third has nothing to do', async () => {
    const paths = [file('a', numbered(500, 'a')), file('b', numbered(500, 'b'))]
    const first = await open({ sources: [source('in', ...paths)] })
    let slices = 0
    const stopped = gate()
    await run(first, ['in'], async (slice, signal) => {
      if (++slices === 62) stopped.open()
      return copyTo('out')(slice, signal)
    })
    await stopped.opened
    await first.drain()
    await expect(first.done()).rejects.toMatchObject({ code: 'CANCELLED' })
    const before = linesOf(place('parts')).length
    expect(before).toBeGreaterThan(0)
    expect(before).toBeLessThan(1000)
    const second = await open({ sources: [source('in', ...paths)] })
    await run(second, ['in'], copyTo('out'))
    await second.done()
    await second.drain()
    expect(linesOf(place('parts'))).toEqual([...numbered(500, 'a'), ...numbered(500, 'b')].map((line) => `out/0 ${line}`))
    const third = await open({ sources: [source('in', ...paths)] })
    await third.done()
    expect(third.progress()).toMatchObject({ records: 1000, partitions: [{ finished: true }] })
    expect(linesOf(place('parts'))).toHaveLength(1000)
  })

  test('killed in the middle, again and again: each output exactly once, in order', async () => {
    file('in.ndjson', numbered(6000))
    const children: ChildProcess[] = []
    ends.push(() => Promise.resolve(children.forEach((child) => child.kill('SIGKILL'))))
    const launch = (): { child: ChildProcess; lines: string[]; exited: Promise<unknown> } => {
      const child = spawn(process.execPath, [join(import.meta.dirname, 'replay-child.ts'), folder], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      children.push(child)
      const lines: string[] = []
      createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
      return { child, lines, exited: once(child, 'close') }
    }
    let answered = 0
    for (const slices of [9, 24, 41]) {
      const { child, lines, exited } = launch()
      await until(() => lines.length > slices, 'some slices')
      child.kill('SIGKILL')
      await exited
      expect(lines).not.toContain('done')
      expect(Number(lines.at(-1))).toBeGreaterThan(answered)
      answered = Number(lines[0])
    }
    const last = launch()
    await last.exited
    expect(last.lines.at(-1)).toBe('done')
    expect(Number(last.lines[0])).toBeGreaterThan(0)
    expect(linesOf(place('parts'))).toEqual(numbered(6000).map((line) => `out/0 ${line}`))
  })

  test('any slices, prefixes and failures, ended and gone on with at any point: each record once', async () => {
    const live = await embedded()
    await live.topics.ensure([{ name: 'topic', partitions: 3 }])
    await fill(live, 'topic', 3, 60)
    const path = file('a', numbered(120))
    const plan = fc.record({
      maxSliceRecords: fc.integer({ min: 1, max: 50 }),
      maxSliceBytes: fc.integer({ min: 1, max: 300 }),
      concurrency: fc.integer({ min: 1, max: 4 }),
      checkpointEveryMs: fc.integer({ min: 1, max: 5 }),
      stops: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 3 }),
      consumed: fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      fails: fc.infiniteStream(fc.integer({ min: 0, max: 49 })),
    })
    let round = 0
    await fc.assert(
      fc.asyncProperty(plan, async ({ stops, consumed, fails, checkpointEveryMs, ...cut }) => {
        const [parts, checkpointPath] = [place(`parts-${++round}`), place(`checkpoint-${round}`)]
        for (const stop of [...stops, Infinity]) {
          const bus = new ReplayBus({
            sources: [source('file', path), new TopicSource(live, 'topic')],
            sink: new PartSink(parts),
            checkpointPath,
            checkpointEveryMs,
          })
          await bus.start(signal)
          const stopped = gate()
          let slices = 0
          await run(
            bus,
            ['file', 'topic'],
            ({ partition, topic, records }) => {
              if (++slices === stop) stopped.open()
              if (fails.next().value === 0) return Promise.reject(new MeshError('UNAVAILABLE', 'away'))
              const count = Math.max(1, Math.ceil(records.count * consumed.next().value))
              return Promise.resolve({ writes: [{ topic, partition, records: sliceRecords(records, 0, count) }], consumed: count })
            },
            cut,
          )
          await Promise.race([stopped.opened, bus.done()])
          await bus.drain()
        }
        const lines = linesOf(parts)
        const expected = { 'file/0': numbered(120) } as Record<string, string[]>
        for (const partition of [0, 1, 2]) expected[`topic/${partition}`] = numbered(60, `p${partition}-`)
        const read = Object.groupBy(lines, (line) => line.split(' ')[0]!)
        expect(Object.fromEntries(Object.entries(read).map(([name, of]) => [name, of!.map((line) => line.split(' ')[1])]))).toEqual(
          expected,
        )
      }),
      { numRuns: 25 },
    )
  })

  test('a checkpoint that is damaged, of other inputs, or in use is refused, saying why', async () => {
    const path = file('a', numbered(30))
    const first = await open({ sources: [source('in', path)] })
    await run(first, ['in'], copyTo('out'), { stamp: 'store-1' })
    await first.done()
    const refused = (message: string): unknown =>
      expect.objectContaining({ code: 'FAILED_PRECONDITION', message: expect.stringContaining(message) })
    const again = (...sources: ReplayBusOptions['sources']): Promise<ReplayBus> => open({ sources })
    await expect(again(source('in', path))).rejects.toEqual(refused('in use'))
    await first.drain()
    await expect(again(source('other', path))).rejects.toEqual(refused('it reads in, this run other'))
    await expect(again(source('in', path, file('b', ['x'])))).rejects.toEqual(refused('b (2 bytes'))
    file('a', numbered(30, 's'))
    await expect(again(source('in', path))).rejects.toEqual(refused('is of other inputs'))
    file('a', numbered(30))
    const second = await again(source('in', path))
    await expect(run(second, ['in'], copyTo('out'), { stamp: 'store-2' })).rejects.toEqual(refused('"store-1"'))
    await run(second, ['in'], copyTo('out'), { stamp: 'store-1' })
    await second.drain()
    const text = readFileSync(place('checkpoint'), 'utf8')
    for (const damaged of ['', 'x', 'null', text.slice(0, 40), text.replace('"records": 30', '"records": 31')]) {
      writeFileSync(place('checkpoint'), damaged)
      await expect(again(source('in', path))).rejects.toEqual(refused('is no intact checkpoint'))
    }
  })

  test('a topic that was made anew, or whose records are gone, is not gone on with', async () => {
    const live = await embedded()
    await live.topics.ensure([
      { name: 'in', partitions: 1 },
      { name: 'shorter', partitions: 1 },
    ])
    await fill(live, 'in', 1, 100)
    const first = await open({ sources: [new TopicSource(live, 'in')] })
    const [begun, release] = [gate(), gate()]
    await run(first, ['in'], async (slice, signal) => {
      if (slice.offsets[0]! >= 50n) {
        begun.open()
        await release.opened
      }
      return copyTo('out')(slice, signal)
    })
    await begun.opened
    const drained = first.drain()
    release.open()
    await drained
    live.dropBefore('in', 0, 80n)
    const second = await open({ sources: [new TopicSource(live, 'in')] })
    await run(second, ['in'], copyTo('out'))
    await expect(second.done()).rejects.toMatchObject({ code: 'DATA_LOSS', message: expect.stringContaining('no longer retained') })
    await second.drain()
    await expect(
      open({ sources: [new TopicSource(live, 'in', new Map([[0, 10n]]))], checkpointPath: place('other') }),
    ).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
    })
    const third = new EmbeddedBus({ path: place('anew.db') })
    ends.push(() => third.drain())
    await third.start(signal)
    await third.topics.ensure([{ name: 'in', partitions: 1 }])
    await expect(open({ sources: [new TopicSource(third, 'in')] })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('made anew'),
    })
  })

  test('a bus that is drained beneath a replay ends it with an error, not as if it were done', async () => {
    const live = await embedded()
    await live.topics.ensure([{ name: 'in', partitions: 1 }])
    await fill(live, 'in', 1, 100)
    const bus = await open({ sources: [new TopicSource(live, 'in')] })
    let slices = 0
    await run(bus, ['in'], async (slice, signal) => {
      if (++slices === 3) await live.drain()
      return copyTo('out')(slice, signal)
    })
    await expect(bus.done()).rejects.toMatchObject({ code: 'CANCELLED', message: expect.stringContaining('"in"') })
  })

  test.each(['write', 'flush'] as const)(
    'a sink whose %s fails ends the run; the next one goes on from the last checkpoint',
    async (method) => {
      const path = file('a', numbered(300))
      const sink = new PartSink(place('parts'))
      const honest = sink[method].bind(sink) as (...args: unknown[]) => Promise<void>
      let calls = 0
      Object.assign(sink, {
        [method]: async (...args: unknown[]) => {
          // In the middle of its work, as a full disk would.
          if (method === 'write') await honest(...args)
          if (++calls === (method === 'write' ? 20 : 1)) throw new MeshError('RESOURCE_EXHAUSTED', 'the disk is full')
          if (method === 'flush') await honest(...args)
        },
      })
      const first = await open({ sources: [source('in', path)], sink, checkpointEveryMs: 1 })
      await run(first, ['in'], async (slice, signal) => {
        await new Promise((resolve) => setTimeout(resolve, 1))
        return copyTo('out')(slice, signal)
      })
      await expect(first.done()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', message: 'the disk is full' })
      await first.drain()
      const second = await open({ sources: [source('in', path)] })
      await run(second, ['in'], copyTo('out'))
      await second.done()
      expect(linesOf(place('parts'))).toEqual(numbered(300).map((line) => `out/0 ${line}`))
    },
  )

  test('it takes nothing in, and says what it has', async () => {
    const bus = new ReplayBus({ sources: [source('in', file('a', ['x']))], sink: new PartSink(place('parts')) })
    ends.push(() => bus.drain())
    await expect(run(bus, ['in'], copyTo('out'))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await bus.start(signal)
    await expect(bus.publish('in')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(() => bus.subscribe({ topic: 'in' })).toThrow(expect.objectContaining({ code: 'FAILED_PRECONDITION' }))
    await bus.topics.ensure([{ name: 'anything', partitions: 9 }])
    expect(await bus.topics.list()).toEqual([{ name: 'in', partitions: 1 }])
    expect(await bus.topics.offsets('in')).toEqual([{ partition: 0, earliest: 0n, end: 1n }])
    await expect(bus.topics.offsets('out')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(run(bus, ['nowhere'], copyTo('out'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await run(bus, ['in'], copyTo('out'))
    await expect(run(bus, ['in'], copyTo('out'))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await bus.done()
    expect(() => new ReplayBus({ sources: [source('in', 'a'), source('in', 'b')], sink: new PartSink(place('parts')) })).toThrow(
      'two sources',
    )
  })
})
