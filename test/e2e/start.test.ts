import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readGateway } from '../checker/read-gateway.ts'
import { isClean, summary } from '../checker/report.ts'
import { gatewayUrl, predictionCount, restAndCheck } from './example-run.ts'
import { anyPorts, repositoryRoot, SpillwayProcess, TestProcess, until } from './processes.ts'

const flags = [...anyPorts, '--rate', '3000']
/** Of the example event that a start suggests. */
const exampleId = 999_999_999

const env = userEnvironment()
const folder = mkdtempSync(join(tmpdir(), 'spillway-start-'))
const started: TestProcess[] = []

afterAll(async () => {
  for (const each of started) if (!each.ended) await each.stop('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** A user's own shell: nothing of this test run's npm or Vitest in it. */
function userEnvironment(): NodeJS.ProcessEnv {
  const ours = /^(npm_|VITEST|NODE_|INIT_CWD|TEST$|MODE$|DEV$|PROD$)/
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((each) => !each.includes('node_modules'))
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name))), PATH: path.join(delimiter) }
}

function npmStart(data: string): TestProcess {
  const mesh = new TestProcess('npm start', 'npm', ['start', '--', '--data', data, ...flags], { cwd: repositoryRoot, env, group: true })
  started.push(mesh)
  return mesh
}

/** The printed command that begins with `start`. */
function suggestion(mesh: TestProcess, start: string): string {
  const line = mesh.output.split('\n').find((each) => each.includes(start))
  expect(line, `a suggestion of ${start}`).toBeDefined()
  return line!.slice(line!.indexOf(start))
}

/** Runs a command line as pasted into a shell in the repository. */
function paste(line: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync('sh', ['-c', line], { cwd: repositoryRoot, env, encoding: 'utf8', timeout: 30_000 })
}

/** A printed curl command's answer; where there is no curl, that of the same request. */
async function answerTo(line: string): Promise<unknown> {
  if (spawnSync('curl', ['--version']).status === 0) return JSON.parse(paste(line).stdout)
  const [, url, body] = /^curl -s (\S+) -H 'content-type: application\/json' -d '(.*)'$/.exec(line)!
  return (await post(url!, body!)).json()
}

function post(url: string, body: string): Promise<Response> {
  return fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
}

const reasons = ['accepted-below', 'accepted-above', 'final-tier']

function expectPrediction(prediction: unknown): void {
  const { id, transaction_id: transaction, score, decision, reason, tier, ...rest } = prediction as Record<string, unknown>
  expect(id).toBe(String(transaction))
  expect(score).toSatisfy((value: number) => value >= 0 && value <= 1, 'a score from 0 to 1')
  expect(decision).toBe((score as number) >= 0.5)
  expect(reasons).toContain(reason)
  expect(tier).toBe(reason === 'final-tier' ? 'fraud-heavy' : 'fraud-cheap')
  expect(rest).toEqual({
    event_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
    degraded: false,
    model_version: '1',
    customer_id: expect.any(Number) as number,
    terminal_id: expect.any(Number) as number,
    amount: expect.any(Number) as number,
  })
}

/** The player numbers its transactions from 0 on. @returns the first ids that are out of step, where one is missing or there twice */
function gaps(ids: readonly number[]): readonly number[] {
  const own = ids.filter((id) => id !== exampleId).toSorted((a, b) => a - b)
  return own.filter((id, index) => id !== index).slice(0, 5)
}

describe('npm start', () => {
  const data = join(folder, 'start')

  test('shows predictions and alerts, answers what it suggests, and ends with 0 on Ctrl-C', { timeout: 120_000 }, async () => {
    const mesh = npmStart(data)
    const base = await gatewayUrl(mesh)
    const [, line] = await mesh.printed(/^ALERT (.*)$/m)
    const alert = JSON.parse(line!) as Record<string, unknown>
    expectPrediction(alert)
    expect(alert['decision']).toBe(true)
    expect((await fetch(`${base}/readyz`)).status).toBe(200)
    expect(await predictionCount(base)).toBeGreaterThan(6000)
    const predictions = await readGateway(base, 'predictions', { expected: 1000 })
    for (const { value } of predictions) expectPrediction(JSON.parse(value))
    const [first] = await readGateway(base, 'alerts', { expected: 1 })
    expect(mesh.output).toContain(`ALERT ${first!.value}`)
    await expectSuggestionsToWork(mesh, base)
    await expectRefusals(base)
    expect(await mesh.stop('SIGINT', 15_000), mesh.output.slice(-2000)).toBe(0)
    expect(mesh.output).toContain('goes on from here')
  })

  test('goes on where it stopped: nothing is lost, nothing comes twice', { timeout: 120_000 }, async () => {
    const mesh = npmStart(data)
    const base = await gatewayUrl(mesh)
    await until(
      'more predictions',
      async () => ((await predictionCount(base)) > 3000 ? true : undefined),
      60_000,
      () => mesh.output,
    )
    expect(await mesh.stop('SIGTERM', 15_000), mesh.output.slice(-2000)).toBe(0)
    const { report, transactionIds, deadLetters } = await restAndCheck(data)
    expect(isClean(report), summary(report)).toBe(true)
    expect(gaps(transactionIds)).toEqual([])
    expect(
      transactionIds.filter((id) => id === exampleId),
      'two suggestions and a bad event, published by hand',
    ).toHaveLength(3)
    expect(deadLetters.map(({ headers }) => headers)).toEqual([
      expect.objectContaining({ 'spillway-code': 'INVALID_ARGUMENT', 'spillway-field': 'amount' }),
    ])
  })
})

async function expectSuggestionsToWork(mesh: TestProcess, base: string): Promise<void> {
  const predicted = (await answerTo(suggestion(mesh, `curl -s ${base}/v1/pipelines/fraud:predict`))) as { prediction: unknown }
  expectPrediction(predicted.prediction)
  expect(predicted.prediction).toMatchObject({ id: String(exampleId) })
  const again = paste(suggestion(mesh, 'npx spillway predict'))
  expect(JSON.parse(again.stdout), again.stderr).toEqual(predicted)
  const positions = { positions: [{ partition: expect.any(Number) as number, offset: expect.stringMatching(/^\d+$/) as string }] }
  expect(await answerTo(suggestion(mesh, `curl -s ${base}/v1/topics/transactions/events`))).toEqual(positions)
  const published = paste(suggestion(mesh, 'npx spillway publish'))
  expect(JSON.parse(published.stdout), published.stderr).toEqual(positions)
  const subscribed = paste(`${suggestion(mesh, 'npx spillway subscribe')} --from earliest --count 1`)
  expectPrediction(JSON.parse(subscribed.stdout))
  await until(
    'the published events to be answered',
    async () => {
      const subscriber = new SpillwayProcess(['subscribe', 'predictions', '--gateway', base, '--from', 'earliest'], repositoryRoot)
      started.push(subscriber)
      await subscriber.printed(new RegExp(`"id":"${exampleId}"[^]*"id":"${exampleId}"`))
      return (await subscriber.stop('SIGINT')) === 0 ? true : undefined
    },
    30_000,
  )
}

async function expectRefusals(base: string): Promise<void> {
  const bad = { transaction_id: exampleId, customer_id: 1, terminal_id: 1, amount: 'ten', tx_datetime: '2018-04-01T00:00:00Z' }
  const refused = await post(`${base}/v1/pipelines/fraud:predict`, JSON.stringify({ event: bad }))
  expect([refused.status, await refused.json()]).toEqual([
    400,
    { error: expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'amount' }) as object },
  ])
  const command = paste(`npx spillway predict --pipeline fraud --gateway ${base} '${JSON.stringify(bad)}'`)
  expect([command.status, command.stderr]).toEqual([2, expect.stringMatching(/^spillway: .*amount/) as string])
  // A topic takes whatever comes: what cannot be read becomes a dead letter.
  expect((await post(`${base}/v1/topics/transactions/events`, JSON.stringify(bad))).status).toBe(200)
}

test('a mesh that is killed goes on where it was: nothing is lost, nothing comes twice', { timeout: 120_000 }, async () => {
  const data = join(folder, 'killed')
  for (const predictions of [4000, 2000]) {
    const mesh = new SpillwayProcess(['demo', '--data', data, ...flags], repositoryRoot)
    started.push(mesh)
    const base = await gatewayUrl(mesh)
    await until(
      'predictions',
      async () => ((await predictionCount(base)) > predictions ? true : undefined),
      60_000,
      () => mesh.output,
    )
    await mesh.stop('SIGKILL')
  }
  const { report, transactionIds } = await restAndCheck(data)
  expect(isClean(report), summary(report)).toBe(true)
  expect(report.predictions).toBeGreaterThan(6000)
  expect(gaps(transactionIds)).toEqual([])
})
