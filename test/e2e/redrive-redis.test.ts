import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Bus, KafkaBus } from '@spillway/bus'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { sharedKafka, sharedRedis } from '../brokers/mod.ts'
import { matchAnswers } from '../checker/answers.ts'
import { check } from '../checker/check.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { type CheckedRecord, inLogOrder } from '../checker/record.ts'
import { findings, summary } from '../checker/report.ts'
import { fraudEvents, type FraudNames, fraudNames, pipelineFacts, topicRecords, writePipeline } from './fraud-run.ts'
import { drainAll, killAll, killAndRestart, lastWords, startServices } from './mesh-services.ts'
import { repositoryRoot, SpillwayProcess, until } from './processes.ts'
import { TopicWatch } from './watch.ts'

/** While a file is there: one gate before the features shuts some customers out, one behind them others, and a third fails whole batches over single rows. */
const gates = (broken: string): string => `
import { existsSync } from 'node:fs'
import { MeshError } from ${JSON.stringify(join(repositoryRoot, 'libs', 'core', 'src', 'mod.ts'))}

const shut = () => existsSync(${JSON.stringify(broken)})
const gate = (left: number) => ({
  process(batch: any) {
    const customers = Array.from(batch.columns.get('customer_id').data, Number)
    const failures = shut() ? customers.flatMap((each, row) => each % 10 === left ? [{ row, error: new Error('shut for ' + each) }] : []) : []
    return { batch, failures }
  },
})

export const before = gate(1)
export const behind = gate(3)
export const away = {
  process(batch: any) {
    if (shut() && batch.meta.ids.some((id: string) => Number(id) % 500 === 250)) throw new MeshError('UNAVAILABLE', 'what this row needs is away')
    return batch
  },
}
`
const isShutOut = (customer: number): boolean => customer % 10 === 1

const [kafka, redis] = [await sharedKafka(), await sharedRedis()]
/** Events of before the repair, of while letters are given back, and of after. */
const phases = [4000, 2500, 1000] as const
const total = phases[0] + phases[1] + phases[2]

describe.skipIf('skipped' in kafka || 'skipped' in redis)('dead letters of two preprocessing processes that share a Redis', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const address = `kafka://${brokers.join(',')}`
  const folder = mkdtempSync(join(tmpdir(), 'spillway-redrive-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test(
    'given back while events flow and one of the two is killed: each is answered once, with the features of its place in history',
    { timeout: 240_000 },
    async () => {
      const names = fraudNames(`redrive-${Date.now()}`)
      const broken = join(folder, 'broken')
      const pipeline = gatedPipeline(folder, names, broken)
      const bus = new KafkaBus({ brokers, clientId: 'e2e' })
      await bus.start(AbortSignal.timeout(60_000))
      await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
      const parts = eventsOfPhases()
      const mesh = await startServices({
        pipeline,
        bus: address,
        links: 'topic',
        services: ['model', 'postprocessing', 'cascade-router', 'preprocessing', 'preprocessing'],
        store: 'skipped' in redis ? '' : redis.url,
        data: join(folder, names.pipeline),
      })
      const answers = new TopicWatch(bus, names.predictions)
      const letters = new TopicWatch(bus, names.deadLetters)
      let shut = Infinity
      const nothingFails = (): void =>
        expect(
          letters.records.slice(shut).map(({ headers }) => headers),
          'letters after the repair',
        ).toEqual([])
      const reached = (what: string, done: () => boolean): Promise<true> =>
        until(
          what,
          () => {
            nothingFails()
            return done() ? true : undefined
          },
          90_000,
          () => `${answers.count} answers, ${letters.count} letters\n${lastWords(mesh)}`,
        )
      const givenBack = (): number => answers.records.filter(isGivenBack).length
      let operator: SpillwayProcess | undefined
      try {
        await publishSteadily(bus, names, parts[0]!, 1000)
        const first = transactionsIn(parts[0]!)
        await reached('all events to be answered or letters', () => answers.count + letters.count >= first)
        const codes = Map.groupBy(letters.records, ({ headers }) => `${headers!['spillway-stage']} ${headers!['spillway-code']}`)
        expect([...codes.keys()].toSorted()).toEqual([
          'before.transactions INVALID_ARGUMENT',
          // What fails for a while has no stage of its own: it goes in again at the head, where its histories have it already.
          'before.transactions UNAVAILABLE',
          'behind INVALID_ARGUMENT',
        ])
        shut = letters.count
        console.info(`letters: ${[...codes].map(([code, those]) => `${code} ${those.length}`).join(', ')}`)

        rmSync(broken)
        operator = new SpillwayProcess(['dlq', 'redrive', '--pipeline', pipeline, '--bus', address, '--all', '--rate', '60'], folder)
        const flowing = publishSteadily(bus, names, parts[1]!, 120)
        await reached('the first letters to be answered', () => givenBack() >= shut / 8)
        await killAndRestart(mesh, 'preprocessing')
        const atKill = givenBack()
        expect(atKill).toBeLessThan(shut)
        expect(await operator.finished(90_000), operator.output).toBe(0)
        await flowing
        await reached('all letters to be answered', () => givenBack() >= shut)
        // Those whose letters were shut out of their histories come again: what they did meanwhile must be there, once.
        await publishSteadily(bus, names, parts[2]!, 500)
        await reached('all events to be answered', () => answers.count >= parts.flat().length - labelsIn(parts.flat()))
        console.info(`${shut} letters given back, ${atKill} of them answered at the kill; ${answers.count} answers`)
        expect(await drainAll(mesh)).toEqual([])
        nothingFails()
      } finally {
        await killAll([...mesh, ...(operator === undefined ? [] : [operator])])
        await Promise.all([answers.end(), letters.end()])
        await bus.drain()
      }
      await checkRun(brokers, names)
    },
  )
})

type Events = ReturnType<typeof fraudEvents>
const isGivenBack = ({ headers }: CheckedRecord): boolean => headers?.['spillway-redriven'] !== undefined
const transactionsIn = (events: Events): number => events.filter(({ topic }) => topic === 'transactions').length
const labelsIn = (events: Events): number => events.length - transactionsIn(events)

/** Customers that are shut out before the features pause while their letters are given back: which of both came first would be anybody's guess. */
function eventsOfPhases(): readonly Events[] {
  const parts: Events[number][][] = [[], [], []]
  let seen = 0
  for (const event of fraudEvents(total)) {
    if (event.topic === 'transactions') seen++
    const phase = seen <= phases[0] ? 0 : seen <= phases[0] + phases[1] ? 1 : 2
    if (event.topic === 'labels' || phase !== 1 || !isShutOut(event.transaction.customerId)) parts[phase]!.push(event)
  }
  return parts
}

/** In their order, at so many a second. */
async function publishSteadily(bus: Bus, names: FraudNames, events: Events, perSecond: number): Promise<void> {
  const size = Math.ceil(perSecond / 5)
  const startMs = performance.now()
  for (let sent = 0; sent < events.length; sent += size) {
    const slice = events.slice(sent, sent + size)
    for (const topic of ['labels', 'transactions'] as const) {
      const records = topicRecords(slice, topic)
      if (records.count > 0) await bus.publish(names[topic], records)
    }
    await wait(Math.max(0, startMs + ((sent + size) / perSecond) * 1000 - performance.now()))
  }
}

function gatedPipeline(folder: string, names: FraudNames, broken: string): string {
  const path = writePipeline(folder, names, { predictions: { features: true } })
  writeFileSync(join(folder, 'gates.ts'), gates(broken))
  writeFileSync(broken, '')
  const own = (name: string, at: string): object => ({
    name,
    module: './gates.ts',
    export: name,
    at,
    ...(at === 'features' && { needs: ['customer_id'] }),
  })
  const file = parse(readFileSync(path, 'utf8')) as { features: { histories: Record<string, object> } }
  // Letters are as old as what flows meanwhile is ahead of them: their windows must still be kept by then.
  for (const history of Object.values(file.features.histories)) Object.assign(history, { retention: '90d' })
  writeFileSync(path, stringify({ ...file, stages: [own('before', 'events'), own('behind', 'features'), own('away', 'features')] }))
  return path
}

async function checkRun(brokers: readonly string[], names: FraudNames): Promise<void> {
  const read = (topic: string): ReturnType<typeof readKafka> => readKafka(brokers, topic)
  const [transactions, predictions] = [await read(names.transactions), await read(names.predictions)]
  const report = await check({
    inputs: { [names.transactions]: transactions, [names.labels]: await read(names.labels) },
    predictions,
    // All were given back, and have answers.
    deadLetters: [],
    alerts: await read(names.alerts),
    pipeline: { ...pipelineFacts(names), showsFeatures: true },
    sample: 1000,
  })
  console.info(summary(report).split('\n')[0])
  for (const finding of findings) if (finding !== 'outOfOrder') expect(report[finding].count, summary(report)).toBe(0)
  expect(report.predictions).toBe(transactions.length)
  expect(report.featuresChecked).toBe(transactions.length)
  // Letters come after what was answered meanwhile: those that were given back are in order among themselves, and so are all others.
  const idOf = ({ value }: CheckedRecord): unknown => (JSON.parse(value) as Record<string, unknown>)['transaction_id']
  const redriven = new Set(predictions.filter(isGivenBack).map(idOf))
  for (const back of [true, false]) {
    const { outOfOrder } = matchAnswers(
      inLogOrder(transactions),
      (record) => redriven.has(idOf(record)) !== back,
      inLogOrder(predictions.filter((record) => isGivenBack(record) === back)),
    )
    expect(outOfOrder.count, outOfOrder.examples.join('\n')).toBe(0)
  }
}
