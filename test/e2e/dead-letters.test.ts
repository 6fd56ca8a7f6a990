import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedBus } from '@spillway/bus'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gatewayUrl } from './example-run.ts'
import { answeredCounts, customers, expectedCounts, LettersRun, payment } from './letters-run.ts'
import { metricsOf, untilAtRest } from './metrics.ts'
import { type SpillwayProcess, until } from './processes.ts'
import { readBus } from './read-bus.ts'

const count = 1000
const malformed = ['{"number": 1', '{"number":"x","customer":"c1","amount":1}', '[]']
interface Letter {
  readonly position: string
  readonly outcome: string
  readonly redriven: number
}

const shut = 3 * (count / 10)

describe('dead letters of a mesh on its embedded bus', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-letters-'))
  const file = join(folder, 'bus.db')
  const run = new LettersRun(folder, 'letters')
  let mesh: SpillwayProcess
  let gateway: string
  let redriven = 0
  const at = (): readonly string[] => ['--gateway', gateway]

  beforeAll(async () => {
    await run.write()
    mesh = run.up(`embedded:${file}`)
    gateway = await gatewayUrl(mesh)
    const body = [...Array.from({ length: count }, (_, number) => payment(number)), ...malformed].join('\n')
    const topic = `${gateway}/v1/topics/${run.topic('payments')}/events`
    const answer = await fetch(topic, { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body })
    expect(answer.status, await answer.clone().text()).toBe(200)
    await openLetters(shut + malformed.length)
  })
  afterAll(async () => {
    await mesh.stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })

  /** As the gateway lists them. */
  async function listed(filter: Readonly<Record<string, string>> = {}): Promise<readonly Letter[]> {
    const query = new URLSearchParams({ limit: '1000', ...filter })
    const answer = await fetch(`${gateway}/v1/pipelines/letters/dead-letters?${query.toString()}`)
    expect(answer.status, await answer.clone().text()).toBe(200)
    return ((await answer.json()) as { letters: readonly Letter[] }).letters
  }

  async function openLetters(expected: number): Promise<void> {
    let found = -1
    await until(
      `${expected} open letters`,
      async () => ((found = (await listed()).length) === expected ? true : undefined),
      60_000,
      () => `${found} are open\n${mesh.output.slice(-2000)}`,
    )
  }

  test('are listed by what failed them, and shown with event and row', async () => {
    expect(await listed({ segment: 'preprocessing', code: 'INTERNAL' })).toHaveLength(0)
    const before = await listed({ stage: 'before.payments' })
    expect(before).toHaveLength(count / 10)
    const message = expect.stringMatching(/^the gate is shut for/) as string
    expect(before[0]).toMatchObject({ outcome: 'open', segment: 'preprocessing', redriven: 0, message })
    const ofCustomer = Array.from({ length: count }, (_, number) => number).filter((n) => n % 10 === 7 && n % customers === 3)
    expect(await listed({ segment: 'postprocessing', key: 'c3' })).toHaveLength(ofCustomer.length)
    const lines = await run.said('list', at(), '--json', '--id', '13')
    const one = JSON.parse(lines[0]!) as Letter
    expect(one).toMatchObject({ stage: 'behind', key: 'c6', source: expect.stringMatching(/^letters\.payments\/\d\/\d+$/) as string })
    const [shown] = await run.said('show', at(), '--json', one.position)
    expect(JSON.parse(shown!)).toMatchObject({ event: payment(13), row: { features: [14, expect.any(Number)] } })
    expect(await run.said('show', at(), '0-99999')).toEqual([expect.stringMatching(/there is no letter 0-99999/)])
    expect(await run.said('list', ['--bus', `embedded:${file}`])).toEqual([expect.stringMatching(/in use by .*--gateway/)])
  })

  test('are not touched by a dry run, nor by a command that says not which', async () => {
    expect(await run.said('redrive', at(), '--stage', 'last', '--dry-run')).toEqual([
      `${count / 10} × INVALID_ARGUMENT in postprocessing at last`,
      `${count / 10} letters would be redriven`,
    ])
    expect(await run.said('drop', at())).toEqual([expect.stringMatching(/which letters\?/)])
    expect(await listed()).toHaveLength(shut + malformed.length)
  })

  test('are given back once each, though the command and the mesh are killed in the middle', async () => {
    run.mend()
    const command = run.dlq('redrive', at(), '--all', '--rate', '100')
    await until(
      'some letters to be given back',
      async () => ((await listed({ outcome: 'redriven' })).length > 40 ? true : undefined),
      30_000,
    )
    await command.stop('SIGKILL')
    await mesh.stop('SIGKILL')
    mesh = mesh.again()
    gateway = await gatewayUrl(mesh)
    const given = (await listed({ outcome: 'redriven' })).length
    expect(given).toBeGreaterThan(40)
    expect(given).toBeLessThan(shut)
    const lines = await run.said('redrive', at(), '--all')
    expect(lines.at(-1)).toMatch(/^\d+ letters redriven$/)
    await openLetters(malformed.length)
    await untilAtRest(async () => [await metricsOf(gateway)])
  })

  test('that fail again are letters anew, which say how often they were given back, and can be dropped', async () => {
    const open = await listed()
    // Once or twice: what had failed again before the kill was open again.
    expect(open.every(({ redriven }) => redriven >= 1)).toBe(true)
    redriven = open.reduce((sum, letter) => sum + letter.redriven, 0)
    expect((await run.said('drop', at(), '--from', '2020-01-01')).at(-1)).toBe(`${malformed.length} letters dropped`)
    expect(await listed()).toEqual([])
    expect(await listed({ outcome: 'dropped' })).toHaveLength(malformed.length)
    const again = await run.said('redrive', at(), open[0]!.position)
    expect(again.join()).toMatch(/the letter is dropped already/)
  })

  test('are answered once, in their own place in history, with how often they were given back; a stopped mesh’s file is read too', async () => {
    expect(await mesh.stop('SIGTERM'), mesh.output.slice(-2000)).toBe(0)
    const bus = new EmbeddedBus({ path: file })
    await bus.start(AbortSignal.timeout(10_000))
    const predictions = await readBus(bus, run.topic('predictions'))
    await bus.drain()
    expect(answeredCounts(predictions)).toEqual(expectedCounts(count))
    const all = await run.said('list', ['--bus', `embedded:${file}`], '--json', '--outcome', 'any', '--limit', '5000')
    expect(all).toHaveLength(shut + malformed.length + redriven)
  })
})
