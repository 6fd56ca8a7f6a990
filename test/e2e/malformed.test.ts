import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KafkaBus } from '@spillway/bus'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sharedKafka } from '../brokers/mod.ts'
import { check } from '../checker/check.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { isClean, summary } from '../checker/report.ts'
import { fraudNames, pipelineFacts, writePipeline } from './fraud-run.ts'
import { inputsOf, type Letter, lettersOn, partitions, placeOf, plan, send, wrongLetters } from './malformed-run.ts'
import { drainAll, killAll, lastWords, type ServiceProcess, startServices } from './mesh-services.ts'
import { until } from './processes.ts'

const kafka = await sharedKafka()
const names = fraudNames(`malformed-${Date.now()}`)
const planned = plan(names, 8000, 2)
const malformed = planned.filter((record) => record.malformed !== undefined)
const good = planned.filter((record) => record.topic === names.transactions && record.malformed === undefined)

describe.skipIf('skipped' in kafka)('malformed records of all kinds among good ones, over Kafka', () => {
  const brokers = 'skipped' in kafka ? [] : kafka.brokers
  const folder = mkdtempSync(join(tmpdir(), 'spillway-malformed-'))
  let bus: KafkaBus
  let mesh: ServiceProcess[] = []
  let letters: readonly Letter[] = []

  beforeAll(async () => {
    bus = new KafkaBus({ brokers, clientId: 'malformed' })
    await bus.start(AbortSignal.timeout(60_000))
    await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions })))
    await send(brokers, planned)
  })
  afterAll(async () => {
    await killAll(mesh)
    await bus.drain()
    rmSync(folder, { recursive: true, force: true })
  })

  test(
    'every good one is answered once, every bad one is one dead letter that says why, and no process ends',
    { timeout: 300_000 },
    async () => {
      mesh = await startServices({
        pipeline: writePipeline(folder, names),
        bus: `kafka://${brokers.join(',')}`,
        links: 'topic',
        services: ['model', 'postprocessing', 'cascade-router', 'preprocessing', 'gateway'],
        data: join(folder, names.pipeline),
      })
      await atRest(mesh)
      expect(mesh.filter(({ ended }) => ended).map(({ name, output }) => `${name} ended:\n${output.slice(-2000)}`)).toEqual([])
      expect(mesh.flatMap(({ output }) => output.match(/.*the slice is tried again.*/g) ?? [])).toEqual([])
      expect(await drainAll(mesh)).toEqual([])

      letters = await lettersOn(bus, names.deadLetters)
      expect(wrongLetters(planned, letters)).toEqual([])
      expect(letters).toHaveLength(malformed.length)
      const report = await check({
        inputs: inputsOf(planned),
        predictions: await readKafka(brokers, names.predictions),
        alerts: await readKafka(brokers, names.alerts),
        deadLetters: await readKafka(brokers, names.deadLetters),
        pipeline: pipelineFacts(names),
        sample: 1000,
      })
      expect(isClean(report), summary(report)).toBe(true)
      expect(report.predictions).toBe(good.length)
    },
  )

  test('the verdict sees a record without a letter, one with two, one that says too little, and one that nothing was wrong with', () => {
    const [first, ...rest] = letters as [Letter, ...Letter[]]
    const found = (changed: readonly Letter[]): readonly string[] => wrongLetters(planned, changed)
    const saying = (headers: Letter['headers']): Letter => ({ ...first, headers: { ...first.headers, ...headers } })
    expect(found(rest)).toEqual([expect.stringMatching(/has 0 dead letters$/)])
    expect(found([first, ...letters])).toEqual([expect.stringMatching(/has 2 dead letters$/)])
    expect(found([saying({ 'spillway-message': 'bad record' }), ...rest])).toEqual([expect.stringMatching(/says "bad record"/)])
    expect(found([saying({ 'spillway-field': 'other' }), ...rest])).toEqual([expect.stringMatching(/names the field other/)])
    expect(found([saying({ 'spillway-code': 'INTERNAL' }), ...rest])).toEqual([expect.stringMatching(/has the code INTERNAL/)])
    expect(found([{ ...first, value: Buffer.from('{}') }, ...rest])).toEqual([expect.stringMatching(/does not hold the bytes/)])
    const { partition, offset } = good[0]!
    const ofGood = saying({
      'spillway-source-topic': names.transactions,
      'spillway-source-partition': String(partition),
      'spillway-source-offset': String(offset),
    })
    expect(found([...letters, ofGood])).toEqual([expect.stringMatching(`${placeOf(good[0]!)} was good`)])
  })
})

/** Lags are read once a second: no lag for longer than that. */
async function atRest(mesh: readonly ServiceProcess[]): Promise<void> {
  let sinceMs = Infinity
  await until(
    'the mesh to process what lies on its topics',
    async () => {
      const metrics = await Promise.all(mesh.map(async (service) => (service.ended ? '' : service.metrics())))
      const lags = metrics.flatMap((text) =>
        [...text.matchAll(/^spillway_consumer_lag_records\{.*\} (\d+)$/gm)].map(([, lag]) => Number(lag)),
      )
      if (lags.length === 0 || lags.some((lag) => lag > 0)) sinceMs = Infinity
      else if (sinceMs === Infinity) sinceMs = performance.now()
      return performance.now() - sinceMs > 2500 || mesh.some(({ ended }) => ended) ? true : undefined
    },
    240_000,
    () => lastWords(mesh),
  )
}
