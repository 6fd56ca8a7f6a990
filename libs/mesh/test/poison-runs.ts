import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { type Bus, keyPartition, type Records, recordsOf } from '@spillway/bus'
import { textAt } from '@spillway/core'
import { encodeFrame } from '@spillway/wire'
import { expect } from 'vitest'
import { rows } from './fixture.ts'

export interface PoisonRun {
  readonly kind: 'embedded' | 'kafka'
  /** The bus's file, or its brokers. */
  readonly address: string
  readonly prefix: string
  readonly entry: 'events' | 'frames'
  readonly partitions: number
  /** Names of the events, in order; those that begin with `poison` end the process. */
  readonly names: readonly string[]
}

export async function publishNames(bus: Bus, { prefix, entry, partitions, names }: PoisonRun): Promise<void> {
  await bus.topics.ensure([entry, 'predictions', 'dead-letters'].map((name) => ({ name: `${prefix}-${name}`, partitions })))
  const records: Records =
    entry === 'events'
      ? recordsOf(names.map((name) => ({ key: name, value: JSON.stringify({ name, x: 1 }) })))
      : recordsOf([
          { value: encodeFrame({ ...rows(names), meta: { ...rows(names).meta, keys: names } }, { schema: 's', release: '1', target: '' }) },
        ])
  await bus.publish(`${prefix}-${entry}`, records)
}

/** Restarts the process whenever it ends, until nothing is left to do; resolves with how often it ended. */
export async function supervise({ kind, address, prefix, entry, partitions }: PoisonRun, maxDeaths: number): Promise<number> {
  for (let deaths = 0; ; deaths++) {
    expect(deaths, 'a crash loop').toBeLessThanOrEqual(maxDeaths)
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, 'poison-child.ts'), kind, address, prefix, entry, String(partitions)],
      {
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    )
    const exit = once(child, 'exit')
    const done = once(child.stdout, 'data').then(() => true)
    const ended = await Promise.race([exit.then(() => false), done])
    child.kill('SIGKILL')
    await exit
    if (ended) return deaths
    expect(child.signalCode).toBe('SIGABRT')
  }
}

/** Every good row is answered once, in order within its partition; each culprit is one dead letter that says why. */
export async function expectEachOnce(bus: Bus, { prefix, entry, partitions, names }: PoisonRun): Promise<void> {
  const answered = await read(bus, `${prefix}-predictions`)
  const good = names.filter((name) => !name.startsWith('poison'))
  for (let partition = 0; partition < partitions; partition++) {
    const mine = (name: string): boolean => entry === 'frames' || keyPartition(Buffer.from(name), partitions) === partition
    expect(answered.filter((row) => row.partition === partition).map(({ value }) => value)).toEqual(good.filter(mine))
  }
  const letters = await read(bus, `${prefix}-dead-letters`)
  const bad = names.filter((name) => name.startsWith('poison'))
  const nameOf = (letter: string): string => bad.find((name) => letter.includes(`"${name}"`)) ?? letter
  expect(new Set(letters.map(({ value }) => nameOf(value)))).toEqual(new Set(bad))
  expect(letters).toHaveLength(bad.length)
  for (const { headers } of letters)
    expect(headers).toMatchObject({
      'spillway-code': 'INTERNAL',
      'spillway-message': expect.stringContaining('the process ended') as string,
    })
}

async function read(bus: Bus, topic: string): Promise<{ readonly partition: number; readonly value: string; readonly headers: unknown }[]> {
  const ends = new Map((await bus.topics.offsets(topic)).map(({ partition, end }) => [partition, end]))
  const found: { partition: number; value: string; headers: unknown }[] = []
  const signal = AbortSignal.timeout(20_000)
  for await (const { partition, records } of bus.subscribe({ topic, from: 'earliest', until: ends, maxSliceRecords: 1000, signal }))
    for (let i = 0; i < records.count; i++) found.push({ partition, value: textAt(records.values, i), headers: records.headers?.[i] })
  return found
}
