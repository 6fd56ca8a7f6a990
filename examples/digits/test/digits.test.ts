import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startModelService, type ModelService } from '@spillway/model'
import { createTelemetry, type OwnedTelemetry } from '@spillway/telemetry'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { drawSvg, drawText } from '../src/draw.ts'
import { type Digit, heldOutDigits, side } from '../src/held-out.ts'
import { accuracy, image, predict, type Prediction } from '../src/predict.ts'

const here = join(import.meta.dirname, '..')
const version = join(here, 'models', 'digits_model', '1')

interface Report {
  readonly rows: { readonly heldOut: number }
  readonly accuracy: { readonly heldOut: number }
  readonly bytes: number
  readonly sha256: string
}

let telemetry: OwnedTelemetry
let service: ModelService
let digits: readonly Digit[]
let report: Report

beforeAll(async () => {
  telemetry = createTelemetry({ service: 'digits-test', logLevel: 'silent', otlp: false })
  const { signal } = new AbortController()
  service = await startModelService({ repository: join(here, 'models'), host: '127.0.0.1', httpPort: 0, grpcPort: 0, telemetry, signal })
  digits = await heldOutDigits()
  report = JSON.parse(await readFile(join(here, 'training', 'report.json'), 'utf8')) as Report
})
afterAll(async () => {
  await service.drain()
  await telemetry.shutdown()
})

test('the model in the repository is the one that training reports', async () => {
  const bytes = await readFile(join(version, 'model.onnx'))
  expect(createHash('sha256').update(bytes).digest('hex')).toBe(report.sha256)
  expect((await stat(join(version, 'model.onnx'))).size).toBe(report.bytes)
  expect(report.bytes).toBeLessThan(1_000_000)
  expect(report.accuracy.heldOut).toBeGreaterThanOrEqual(0.97)
})

test('asked over HTTP, it is right on at least 97 % of the held-out digits, as its report says', async () => {
  const predictions = await predict(`http://127.0.0.1:${service.httpPort}`, digits)
  expect(predictions.length).toBe(report.rows.heldOut)
  expect(accuracy(predictions)).toBeGreaterThanOrEqual(0.97)
  // Other processors differ in the last bits, which can turn a digit that is on the edge.
  expect(Math.abs(accuracy(predictions) - report.accuracy.heldOut)).toBeLessThan(0.002)
  for (const { probabilities } of predictions) expect(probabilities.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 4)
})

test('the Open Inference Protocol gives the same answers', async () => {
  const url = `http://127.0.0.1:${service.httpPort}`
  const some = digits.slice(0, 5)
  const data = some.flatMap(({ pixels }) => [...pixels])
  const body = JSON.stringify({ inputs: [{ name: 'image', datatype: 'FP32', shape: [some.length, side, side], data }] })
  const response = await fetch(`${url}/v2/models/digits_model/infer`, { method: 'POST', body })
  const { outputs } = (await response.json()) as { outputs: { name: string; shape: number[]; data: number[] }[] }
  expect(outputs[0]).toMatchObject({ name: 'probabilities', shape: [5, 10] })
  const predictions = await predict(url, some)
  predictions
    .flatMap(({ probabilities }) => probabilities)
    .forEach((probability, index) => expect(outputs[0]!.data[index]).toBeCloseTo(probability, 5))
})

test('its golden requests are held-out digits', async () => {
  const { requests } = JSON.parse(await readFile(join(version, 'golden.json'), 'utf8')) as {
    requests: { inputs: { data: number[]; shape: number[] }[] }[]
  }
  const { data, shape } = requests[0]!.inputs[0]!
  expect(shape).toEqual([10, side, side])
  const firsts = Array.from({ length: 10 }, (_, digit) => digits.find((one) => one.digit === digit)!)
  expect(data).toEqual(firsts.flatMap(({ pixels }) => [...pixels]))
})

test('predictions are drawn as text and as a picture', () => {
  const pixels = Array.from({ length: side * side }, (_, index) => (index < side || index % side === 0 ? 1 : 0))
  const probabilities = Array.from({ length: 10 }, (_, digit) => (digit === 7 ? 0.91 : 0.01))
  const right: Prediction = { digit: { pixels, digit: 7 }, probabilities, answer: 7 }
  const wrong: Prediction = { ...right, digit: { pixels, digit: 1 } }
  const lines = drawText([right, wrong]).split('\n')
  expect(lines.length).toBe(side / 2 + 1)
  expect(lines[0]).toBe(`█${'▀'.repeat(side - 1)}  █${'▀'.repeat(side - 1)}`)
  expect(lines[1]).toBe(`█${' '.repeat(side - 1)}  █`)
  expect(lines.at(-1)).toBe(`${'7 (91.0 %)'.padEnd(side)}  7 (91.0 %), is 1`)
  const picture = drawSvg([right, wrong], 2)
  expect(picture).toContain('<svg xmlns')
  expect(picture).toContain(`<rect x="0" y="0" width="${side}" height="1" fill-opacity="1"/>`)
  expect(picture.match(/<g transform/g)?.length).toBe(4)
  expect(picture).toContain('#d33')
  expect(image(right.digit).length).toBe(side)
})

test('the command shows it all and draws the picture', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'spillway-digits-'))
  const out = join(folder, 'predictions.svg')
  const { stdout } = await promisify(execFile)(process.execPath, [join(here, 'src', 'main.ts'), '--out', out])
  expect(stdout).toMatch(/held-out digits are right: accuracy 0\.9[7-9]\d\d/)
  expect(stdout).toMatch(/[█▀▄]/)
  expect(await readFile(out, 'utf8')).toContain('</svg>')
  await rm(folder, { recursive: true })
})
