import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EmbeddedBus } from '../src/embedded/embedded-bus.ts'
import { copyTo, readAll, until, valuesOf } from './conformance/fixture.ts'

const signal = AbortSignal.timeout(600_000)

describe('embedded bus and processes', { timeout: 40_000 }, () => {
  let folder: string
  let path: string
  let children: ChildProcess[]

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'spillway-bus-'))
    path = join(folder, 'deeper', 'bus.db')
    children = []
  })
  afterEach(async () => {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(folder, { recursive: true })
  })

  function launch(round: number, mode: 'work' | 'hold'): { child: ChildProcess; lines: string[]; exited: Promise<unknown> } {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'embedded-child.ts'), path, String(round), mode], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    const lines: string[] = []
    createInterface({ input: child.stdout! }).on('line', (line) => lines.push(line))
    return { child, lines, exited: once(child, 'close') }
  }

  test('killed in the middle of publishing and processing, again and again: nothing acknowledged is lost, nothing is doubled', async () => {
    const acknowledged: number[] = []
    for (let round = 0; round < 4; round++) {
      const { child, lines, exited } = launch(round, 'work')
      await until(() => lines.length > 20 + 37 * round, 'acknowledged batches')
      child.kill('SIGKILL')
      await exited
      acknowledged.push(Number(lines.at(-1)))
    }
    const bus = new EmbeddedBus({ path })
    await bus.start(signal)
    const limits = { maxSliceRecords: 1000, maxSliceBytes: 1 << 20, concurrency: 4 }
    const processor = bus.process({ topics: ['in'], group: 'copy', from: 'earliest', ...limits }, copyTo('out'))
    await processor.start(signal)
    await until(async () => (await processor.lags()).every((lag) => lag.committedOffset === lag.endOffset), 'the rest to be copied')
    await processor.drain()
    const [input, output] = [await readAll(bus, 'in'), await readAll(bus, 'out')]
    await bus.drain()
    const published = valuesOf(input)
    expect(new Set(published).size).toBe(published.length)
    for (const [round, last] of acknowledged.entries()) {
      const numbers = published.filter((value) => value.startsWith(`${round}-`)).map((value) => Number(value.split('-')[1]))
      expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: numbers.length }, (_, i) => i))
      expect(numbers.length).toBeGreaterThan(last)
    }
    for (let partition = 0; partition < 4; partition++) {
      const values = (rows: typeof input): string[] => valuesOf(rows.filter((row) => row.partition === partition))
      expect(values(output)).toEqual(values(input))
    }
  })

  test('a second process on the file is refused, and told who holds it', async () => {
    const bus = new EmbeddedBus({ path })
    await bus.start(signal)
    const { lines, exited } = launch(0, 'hold')
    await exited
    expect(lines).toEqual([expect.stringMatching(/^refused FAILED_PRECONDITION /)])
    expect(lines[0]).toContain(path)
    expect(lines[0]).toContain(`process ${process.pid} `)
    await bus.topics.ensure([{ name: 'still', partitions: 1 }])
    await bus.drain()
  })

  test('the hold goes with the process, however it ends', async () => {
    const { child, lines, exited } = launch(0, 'hold')
    await until(() => lines.includes('open'), 'the child to open the file')
    const refused = new EmbeddedBus({ path })
    await expect(refused.start(signal)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`process ${child.pid} `),
    })
    await refused.drain()
    child.kill('SIGKILL')
    await exited
    const bus = new EmbeddedBus({ path })
    await bus.start(signal)
    await bus.drain()
  })

  test('a second bus on the file in one process is refused, until the first is drained', async () => {
    const first = new EmbeddedBus({ path })
    await first.start(signal)
    const second = new EmbeddedBus({ path })
    await expect(second.start(signal)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`process ${process.pid} `),
    })
    await first.topics.ensure([{ name: 'still', partitions: 1 }])
    await expect(new EmbeddedBus({ path }).start(signal)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await first.drain()
    await first.drain()
    const third = new EmbeddedBus({ path })
    await third.start(signal)
    expect(await third.topics.list()).toEqual([{ name: 'still', partitions: 1 }])
    await third.drain()
  })
})
