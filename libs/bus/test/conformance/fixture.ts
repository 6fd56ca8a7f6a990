import { randomUUID } from 'node:crypto'
import { textAt } from '@spillway/core'
import { afterEach, beforeEach } from 'vitest'
import type { Bus, Handler, Outputs, ProcessOptions, Processor, RecordHeaders, Slice, TopicSettings } from '../../src/port.ts'
import { keyPartition, recordsOf } from '../../src/records.ts'

/** What an adapter gives the suite. Each test gets a fresh one. */
export interface BusHarness {
  /** Started. */
  readonly bus: Bus
  /** Another bus over the same log, started; `close` drains it. Absent where the adapter's log belongs to one instance. */
  secondInstance?(): Promise<Bus>
  /** Makes a partition's records before `offset` unavailable, as retention does. */
  dropBefore?(topic: string, partition: number, offset: bigint): Promise<void>
  /** Moves a group's position, without a stamp, as an operator's tool does. */
  movePosition?(group: string, topic: string, partition: number, offset: bigint): Promise<void>
  /** Drains every bus. */
  close(): Promise<void>
}

export type MakeHarness = () => Promise<BusHarness>

export interface Row {
  readonly partition: number
  readonly offset: bigint
  readonly key: string
  readonly value: string
  readonly headers: RecordHeaders | undefined
  readonly timestampMs: number
}

export function sliceRows(slice: Slice): Row[] {
  const { records, offsets, partition } = slice
  return Array.from({ length: records.count }, (_, i) => ({
    partition,
    offset: offsets[i]!,
    key: records.keys ? textAt(records.keys, i) : '',
    value: textAt(records.values, i),
    headers: records.headers?.[i],
    timestampMs: records.timestampsMs[i]!,
  }))
}

export function valuesOf(rows: readonly Row[]): string[] {
  return rows.map((row) => row.value)
}

/** A key for each partition, so that `publish` can aim. */
export function keysByPartition(partitions: number): string[] {
  const keys: string[] = []
  for (let i = 0; keys.filter((key) => key !== undefined).length < partitions; i++) {
    const key = `key-${i}`
    keys[keyPartition(new TextEncoder().encode(key), partitions)] ??= key
  }
  return keys
}

/** `count` records to each partition, valued `p<partition>-<number>`. */
export async function fill(bus: Bus, topic: string, partitions: number, count: number, first = 0): Promise<void> {
  for (const [partition, key] of keysByPartition(partitions).entries())
    await bus.publish(topic, recordsOf(Array.from({ length: count }, (_, i) => ({ key, value: `p${partition}-${first + i}` }))))
}

export async function until(condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The topic's first `count` rows, by partition in order of arrival. */
export async function readRows(bus: Bus, topic: string, count: number): Promise<Row[]> {
  const rows: Row[] = []
  const stop = new AbortController()
  for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1000, signal: stop.signal })) {
    rows.push(...sliceRows(slice))
    if (rows.length >= count) break
  }
  stop.abort()
  return rows
}

/** All that is visible in the topic now: writes an end mark to each partition and reads up to it. */
export async function readAll(bus: Bus, topic: string): Promise<Row[]> {
  const description = await bus.topics.describe(topic)
  const mark = `end-${randomUUID()}`
  await bus.publish(topic, recordsOf(keysByPartition(description!.partitions).map((key) => ({ key, value: mark }))))
  const rows: Row[] = []
  let marks = 0
  const stop = new AbortController()
  for await (const slice of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 1000, signal: stop.signal })) {
    for (const row of sliceRows(slice)) {
      if (row.value === mark) marks++
      else if (!row.value.startsWith('end-')) rows.push(row)
    }
    if (marks === description!.partitions) break
  }
  stop.abort()
  return rows
}

/** A promise and its release. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: resolve }
}

export type Copier = (slice: Slice, signal?: AbortSignal) => Promise<Outputs>

/** A handler that copies each slice to the same partition of `topic`. */
export function copyTo(topic: string): Copier {
  return (slice) => Promise.resolve({ writes: [{ topic, partition: slice.partition, records: slice.records }] })
}

export interface Fixture {
  readonly harness: BusHarness
  readonly bus: Bus
  /** A topic of this test's own, created. */
  topic(label: string, partitions?: number, settings?: Partial<TopicSettings>): Promise<string>
  /** A name that no other test uses. */
  unique(label: string): string
  /** A started processor, drained after the test. Slices of at most 100 records, 1 MiB; concurrency 4. */
  processor(topics: readonly string[], group: string, handle: Handler, options?: Partial<ProcessOptions>, bus?: Bus): Promise<Processor>
}

function unique(label: string): string {
  return `${label}-${randomUUID().slice(0, 8)}`
}

export function useFixture(makeHarness: MakeHarness): Fixture {
  let harness: BusHarness
  let processors: Processor[]
  beforeEach(async () => {
    harness = await makeHarness()
    processors = []
  })
  afterEach(async () => {
    await Promise.all(processors.map((processor) => processor.drain()))
    await harness.close()
  })
  return {
    get harness() {
      return harness
    },
    get bus() {
      return harness.bus
    },
    unique,
    async topic(label, partitions = 1, settings = {}) {
      const name = unique(label)
      await harness.bus.topics.ensure([{ name, partitions, ...settings }])
      return name
    },
    async processor(topics, group, handle, options = {}, bus = harness.bus) {
      const limits = { from: 'earliest', maxSliceRecords: 100, maxSliceBytes: 1 << 20, concurrency: 4, drainGraceMs: 2000 } as const
      const processor = bus.process({ topics, group, ...limits, ...options }, handle)
      processors.push(processor)
      await processor.start(AbortSignal.timeout(30_000))
      return processor
    },
  }
}
