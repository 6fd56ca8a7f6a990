import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { recordsOf } from '@spillway/bus'
import { decodeFrame } from '@spillway/wire'
import { loadPipeline } from '@spillway/mesh'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Host, serviceNames } from 'spillway'
import { logistic, logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import { read, testTelemetry } from './mesh-run.ts'

/** Adds how risky a country is, refuses one that it does not know, and fails as a whole on another. */
const enrich = `
type Row = { rowCount: number; meta: unknown; columns: Map<string, any> }

export default {
  adds: { risk: 'number' },
  process(batch: Row, { settings }: { settings: { risks: Record<string, number> } }) {
    const { data } = batch.columns.get('country')
    const countries = Array.from({ length: batch.rowCount }, (_, row) =>
      Buffer.from(data.bytes.subarray(data.offsets[row], data.offsets[row + 1])).toString())
    if (countries.includes('bomb')) throw new TypeError('no such country')
    const failures = countries.flatMap((country, row) =>
      country in settings.risks ? [] : [{ row, error: new Error('unknown country ' + country) }])
    const risk = Float64Array.from(countries, (country) => settings.risks[country] ?? 0)
    const columns = new Map([...batch.columns, ['risk', { datatype: 'FP64', shape: [batch.rowCount], data: risk }]])
    return { batch: { ...batch, columns }, failures }
  },
}
`

/** Doubles the vector, and says so. */
const behind = `
export const doubled = {
  process: (batch: any) => {
    const features = batch.columns.get('features')
    const data = features.data.map((value: number) => value * 2)
    return { ...batch, columns: new Map([...batch.columns, ['features', { ...features, data }]]) }
  },
}

export const remark = {
  adds: { remark: 'string' },
  async process(batch: any) {
    const amounts = batch.columns.get('amount').data
    const texts = Array.from(batch.columns.get('score').data as Float64Array, (score, row) => \`\${amounts[row]} at \${score.toFixed(2)}\`)
    const offsets = new Uint32Array(texts.length + 1)
    texts.forEach((text, row) => (offsets[row + 1] = offsets[row]! + Buffer.byteLength(text)))
    const data = { bytes: Buffer.from(texts.join('')), offsets }
    return { ...batch, columns: new Map([...batch.columns, ['remark', { datatype: 'BYTES', shape: [texts.length], data }]]) }
  },
}
`

const pipelineText = `pipeline: own
release: r7
partitions: 1
inputs:
  payments: { id: number, key: country, fields: { number: integer, country: string, amount: number } }
features: { vector: [amount, risk] }
featureLog: { calls: true }
stages:
  - { name: enrich, module: ./enrich.ts, at: events, settings: { risks: { de: 0.1, fr: 0.7 } } }
  - { name: doubled, module: ./behind.ts, export: doubled, at: features }
  - { name: remark, module: ./behind.ts, export: remark, at: scored, needs: [amount] }
cascade: { tiers: [{ model: m }] }
outputs: { predictions: { include: [country, remark], features: [risk] } }
`

const weights = [0.1, 1]
const folder = mkdtempSync(join(tmpdir(), 'spillway-own-'))
let host: Host | undefined

beforeAll(async () => {
  await writeModel(join(folder, 'models'), 'm', 1, logisticModel(weights, -1))
  writeFileSync(join(folder, 'enrich.ts'), enrich)
  writeFileSync(join(folder, 'behind.ts'), behind)
  writeFileSync(join(folder, 'pipeline.yaml'), pipelineText)
})
afterEach(async () => {
  await host?.drain()
  host = undefined
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function start(links?: 'topic'): Promise<Host> {
  const loaded = await loadPipeline(join(folder, 'pipeline.yaml'))
  const placement = links === undefined ? loaded.placement : { ...loaded.placement, features: links, scored: links }
  const free = { http: 0, grpc: 0 }
  host = new Host({
    pipeline: { ...loaded, placement },
    services: new Set(serviceNames),
    bus: { kind: 'embedded', path: ':memory:' },
    dataPath: mkdtempSync(join(folder, 'data-')),
    host: '127.0.0.1',
    ports: new Map([
      ['gateway', free],
      ['model', free],
    ]),
    peers: new Map(),
    telemetry: testTelemetry(),
  })
  await host.start(new AbortController().signal)
  return host
}

const payment = (number: number, country: string, amount: number): string => JSON.stringify({ number, country, amount })

/** What it should be for 12.5 from Germany. */
const score = logistic(weights, -1, [25, 0.2])
const prediction = {
  id: '1',
  country: 'de',
  remark: `12.5 at ${score.toFixed(2)}`,
  features: { risk: 0.2 },
  score: expect.closeTo(score, 5) as number,
}

describe('stages of one’s own', () => {
  it.each([undefined, 'topic' as const])('take their place in the mesh (links: %s)', async (links) => {
    const { bus } = await start(links)
    const payments = [payment(1, 'de', 12.5), payment(2, 'atlantis', 1), payment(3, 'fr', 3), payment(4, 'bomb', 1)]
    await bus.publish('payments', recordsOf(payments.map((value) => ({ value }))))
    const predictions = (await read(bus, 'predictions', 2)).map(({ value }) => JSON.parse(value.toString()) as object)
    expect(predictions[0]).toMatchObject(prediction)
    expect(predictions[1]).toMatchObject({ id: '3', features: { risk: 1.4 } })
    const letters = await read(bus, 'own.dead-letters', 2)
    const said = letters.map(({ headers }) => [
      headers['spillway-event-id'],
      headers['spillway-stage'],
      headers['spillway-code'],
      headers['spillway-message'],
    ])
    expect(said).toEqual([
      ['2', 'enrich.payments', 'INVALID_ARGUMENT', 'unknown country atlantis'],
      ['4', 'enrich.payments', 'INTERNAL', 'no such country'],
    ])
  })

  it('answer a call as they answer a stream, and what was served is logged either way', async () => {
    const { bus, gateway } = await start()
    await bus.publish('payments', recordsOf([{ value: payment(1, 'de', 12.5) }]))
    await read(bus, 'predictions', 1)
    const predict = async (event: string): Promise<[number, unknown]> => {
      const answer = await fetch(`http://127.0.0.1:${gateway.httpPort}/v1/pipelines/own:predict`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: `{"event":${event}}`,
      })
      return [answer.status, await answer.json()]
    }
    expect(await predict(payment(1, 'de', 12.5))).toEqual([
      200,
      { prediction: expect.objectContaining(prediction) as object, alert: expect.objectContaining(prediction) as object },
    ])
    expect(await predict(payment(9, 'atlantis', 1))).toEqual([
      400,
      {
        error: expect.objectContaining({
          code: 'INVALID_ARGUMENT',
          message: 'unknown country atlantis',
          stage: 'enrich.payments',
        }) as object,
      },
    ])
    const logged = (await read(bus, 'own.feature-log', 2)).map(({ value }) => decodeFrame(value))
    const pipeline = await loadPipeline(join(folder, 'pipeline.yaml'))
    for (const { batch, info } of logged) {
      expect(info).toMatchObject({ release: 'r7', schema: pipeline.features.hash })
      expect([batch.meta.ids, [...batch.columns.keys()], batch.meta.keys]).toEqual([['1'], ['features'], ['de']])
      expect(batch.columns.get('features')).toMatchObject({ datatype: 'FP32', shape: [1, 2], data: Float32Array.of(25, 0.2) })
    }
    expect(logged.map(({ batch: { meta } }) => [meta.topics[0], meta.partitions[0], meta.offsets[0]])).toEqual([
      ['payments', 0, 0n],
      ['', -1, -1n],
    ])
    expect(host!.process.gatewayPipeline().topics).not.toContain('own.feature-log')
  })
})

describe('a module is refused', () => {
  it.each<[string, (text: string) => string, RegExp]>([
    [
      'that is not there',
      (text) => text.replace('./enrich.ts', './missing.ts'),
      /bad\.yaml:9: stages\[0\]\.module: .*missing\.ts cannot be loaded/,
    ],
    [
      'that is no TypeScript',
      (text) => text.replace('./enrich.ts', './broken.ts'),
      /bad\.yaml:9: stages\[0\]\.module: .*broken\.ts cannot be loaded/,
    ],
    [
      'that lacks the export',
      (text) => text.replace('export: doubled', 'export: tripled'),
      /bad\.yaml:10: stages\[1\]\.export: \.\/behind\.ts exports no "tripled": it exports doubled, remark/,
    ],
    [
      'whose export is no stage',
      (text) => text.replace('./enrich.ts', './number.ts'),
      /bad\.yaml:9: stages\[0\]\.module: export "default" of \.\/number\.ts is no stage/,
    ],
    [
      'that adds a field that the input has',
      (text) => text.replace('amount: number', 'amount: number, risk: number'),
      /bad\.yaml:9: stages\[0\]\.adds: input "payments" has a field "risk" of its own/,
    ],
    [
      'that adds another type than the file says',
      (text) => text.replace('at: events', 'at: events, adds: { risk: string }'),
      /stages\[0\]\.adds\.risk: the module adds it as a number, not a string/,
    ],
    [
      'that needs a field that is not there',
      (text) => text.replace('needs: [amount]', 'needs: [amounts]'),
      /bad\.yaml:11: stages\[2\]\.needs\[0\]: input "payments" has no field "amounts"/,
    ],
    [
      'named as a stage of the mesh',
      (text) => text.replace('name: enrich', 'name: tier-1'),
      /stages\[0\]\.name: "tier-1" is a stage of the mesh's own/,
    ],
    ['at no place', (text) => text.replace('at: scored', 'at: last'), /bad\.yaml:11: stages\.2\.at: choose events/],
  ])('%s', async (_, change, message) => {
    writeFileSync(join(folder, 'broken.ts'), 'export default {{')
    writeFileSync(join(folder, 'number.ts'), 'export default 7')
    writeFileSync(join(folder, 'bad.yaml'), change(pipelineText))
    await expect(loadPipeline(join(folder, 'bad.yaml'))).rejects.toThrow(message)
  })
})
