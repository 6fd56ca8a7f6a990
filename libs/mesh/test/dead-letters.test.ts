import { EmbeddedBus, recordsOf } from '@spillway/bus'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DeadLetter, DeadLetterDesk } from '../src/dead-letter-desk.ts'
import { DeadLetters } from '../src/dead-letters.ts'
import { compileGraph } from '../src/mod.ts'
import { never, pipelineOf } from './fixture.ts'

const pipeline = pipelineOf()
const topic = pipeline.deadLetterTopic

let bus: EmbeddedBus
let desk: DeadLetterDesk
beforeEach(async () => {
  bus = new EmbeddedBus({ path: ':memory:' })
  await bus.start(never)
  desk = new DeadLetters({ bus, pipeline, graph: compileGraph(pipeline) })
})
afterEach(() => bus.drain())

/** So many letters; resolves to their keys. */
async function write(count: number, prefix = 'k'): Promise<readonly string[]> {
  const keys = Array.from({ length: count }, (_, i) => `${prefix}${i}`)
  await bus.topics.ensure([{ name: topic, partitions: pipeline.partitions }])
  await bus.publish(topic, recordsOf(keys.map((key) => ({ key, value: `{"name":"${key}"}` }))))
  return keys
}

/** Page by page. */
async function listed(limit: number): Promise<readonly DeadLetter[]> {
  const letters: DeadLetter[] = []
  for (let after: string | undefined = '0-0'; after !== undefined;) {
    const page: Awaited<ReturnType<DeadLetterDesk['list']>> = await desk.list({}, { after, limit }, never)
    expect(page.letters.length).toBeLessThanOrEqual(limit)
    letters.push(...page.letters)
    after = page.next
  }
  return letters
}

describe('dead letters', () => {
  test('of a pipeline that has not run yet are none, and its topic is left to it', async () => {
    expect(await desk.list({}, { limit: 10 }, never)).toEqual({ letters: [] })
    await expect(desk.show('0-0', never)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    const { settled, left } = await desk.settle(['0-0'], { outcome: 'dropped' }, never)
    expect([settled, left.map(({ position }) => position)]).toEqual([0, ['0-0']])
    expect(await bus.topics.describe(topic)).toBeUndefined()
  })

  test('are listed once each, whatever the size of a page', async () => {
    const keys = await write(25)
    for (const limit of [1, 4, 25, 100]) expect((await listed(limit)).map(({ key }) => key)).toEqual(keys)
  })

  test('are found as soon as they are written', async () => {
    await write(3)
    await expect(desk.show('0-3', never)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await write(1, 'later-')
    expect((await desk.show('0-3', never)).key).toBe('later-0')
  })

  test('that lie far apart are settled at once, and once', async () => {
    await write(2500)
    const positions = ['0-0', '0-3', '0-2400', '0-2499', '0-2500']
    const first = await desk.settle(positions, { outcome: 'dropped' }, never)
    expect([first.settled, first.left.map(({ position }) => position)]).toEqual([4, ['0-2500']])
    expect((await desk.settle(positions, { outcome: 'dropped' }, never)).settled).toBe(0)
    expect((await listed(1000)).length).toBe(2496)
  })
})
