import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { textAt } from '@spillway/core'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { eventJson } from '../src/events.ts'
import { playEvents } from '../src/play-list.ts'
import { SimulationPlayer } from '../src/player.ts'
import { buildWorld, dayMs, smallSize } from '../src/world.ts'

const never = new AbortController().signal
let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fraud-player-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

async function withBus<T>(use: (bus: EmbeddedBus) => Promise<T>): Promise<T> {
  const bus = new EmbeddedBus({ path: join(folder, 'bus.db') })
  await bus.start(never)
  try {
    await bus.topics.ensure(['transactions', 'labels'].map((name) => ({ name, partitions: 4 })))
    return await use(bus)
  } finally {
    await bus.drain()
  }
}

/** All values of a topic, partition by partition in order. */
async function valuesOf(bus: EmbeddedBus, topic: string): Promise<string[]> {
  const ends = await bus.topics.offsets(topic)
  let left = ends.reduce((sum, { end, earliest }) => sum + Number(end - earliest), 0)
  const values: string[] = []
  if (left === 0) return values
  const stop = new AbortController()
  for await (const { records } of bus.subscribe({ topic, from: 'earliest', maxSliceRecords: 500, signal: stop.signal })) {
    for (let row = 0; row < records.count; row++) values.push(textAt(records.values, row))
    left -= records.count
    if (left === 0) break
  }
  stop.abort()
  return values
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

function expectedValues(topic: string, days: number): string[] {
  const world = buildWorld(smallSize)
  const values: string[] = []
  for (const event of playEvents(world)) {
    if (event.atMs >= world.startMs + days * dayMs) return values
    if (event.topic === topic) values.push(eventJson(event))
  }
  return values
}

it('plays every event once, over stops in between', async () => {
  const settings = smallSize
  const options = { settings, transactionsPerS: 5000, untilDay: 12 }
  let before = 0
  let reachedMs = buildWorld(settings).startMs
  for (const stopAfter of [300, 400]) {
    before += await withBus(async (bus) => {
      const player = new SimulationPlayer({ ...options, bus })
      await player.start(never)
      expect(player.progress().transactionsBefore).toBe(before)
      expect(player.progress().eventTimeMs).toBe(reachedMs)
      await until(() => player.progress().transactions >= stopAfter)
      await player.drain()
      reachedMs = player.progress().eventTimeMs
      return player.progress().transactions
    })
  }
  await withBus(async (bus) => {
    const player = new SimulationPlayer({ ...options, bus })
    await player.start(never)
    await player.ended
    expect(player.progress().finished).toBe(true)
    for (const topic of ['transactions', 'labels']) expect((await valuesOf(bus, topic)).sort()).toEqual(expectedValues(topic, 12).sort())
    await player.drain()
  })
})

it('goes on behind a publish that failed after it had landed in part', async () => {
  await withBus(async (bus) => {
    let failures = 0
    const publish = bus.publish.bind(bus)
    bus.publish = async (topic, records) => {
      // The labels land, their transactions do not; or the records land, and the answer is lost.
      if (topic === 'transactions' && ++failures % 3 === 0) throw new Error('the broker went away before')
      const positions = await publish(topic, records)
      if (topic === 'transactions' && failures % 3 === 1) throw new Error('the broker went away after')
      return positions
    }
    const player = new SimulationPlayer({ bus, settings: smallSize, transactionsPerS: 20_000, untilDay: 20 })
    await player.start(never)
    await player.ended
    await player.drain()
    expect(failures).toBeGreaterThan(3)
    for (const topic of ['transactions', 'labels']) expect((await valuesOf(bus, topic)).sort()).toEqual(expectedValues(topic, 20).sort())
  })
})

it('publishes nothing while it is held back, and keeps its pace afterwards', async () => {
  await withBus(async (bus) => {
    let paused = true
    let asked = 0
    const player = new SimulationPlayer({ bus, settings: smallSize, transactionsPerS: 1000, paused: () => ++asked > 0 && paused })
    await player.start(never)
    await until(() => asked > 5)
    expect(player.progress()).toMatchObject({ transactions: 0, pausedForBackpressure: true })
    paused = false
    await until(() => player.progress().transactions > 0)
    expect(player.progress().transactions).toBeLessThan(500)
    await player.drain()
  })
})

it('says so where the topics are missing', async () => {
  const bus = new EmbeddedBus({ path: ':memory:' })
  await bus.start(never)
  const player = new SimulationPlayer({ bus, settings: smallSize, transactionsPerS: 1000 })
  await expect(player.start(never)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  await bus.drain()
})
