import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { MeshError } from '@spillway/core'
import { startModelService } from '@spillway/model'
import { createTelemetry } from '@spillway/telemetry'
import { drawSvg, drawText } from './draw.ts'
import { heldOutDigits } from './held-out.ts'
import { accuracy, predict, type Prediction } from './predict.ts'

const usage = `usage: node examples/digits/src/main.ts [--out FILE.svg] [--port N] [--keep]

Serves models/digits_model, asks it for every held-out digit over HTTP, and draws some of the answers here and more of them into FILE
(examples/digits/build/predictions.svg). --port is that of the REST API (any free one). --keep goes on serving until Ctrl-C.`

/** What the model must reach. */
const leastAccuracy = 0.97
const shownInText = 4
const shownInPicture = 60
const perRow = 10

const here = join(import.meta.dirname, '..')

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: join(here, 'build', 'predictions.svg') },
      port: { type: 'string', default: '0' },
      keep: { type: 'boolean', default: false },
    },
  })
  const httpPort = Number(values.port)
  if (!/^\d+$/.test(values.port) || httpPort > 65_535) throw new MeshError('INVALID_ARGUMENT', `--port ${values.port}: expected 0 to 65535`)
  const telemetry = createTelemetry({ service: 'digits', logLevel: 'warn', otlp: false })
  const { signal } = new AbortController()
  const service = await startModelService({ repository: join(here, 'models'), host: '127.0.0.1', httpPort, grpcPort: 0, telemetry, signal })
  const url = `http://127.0.0.1:${service.httpPort}`
  try {
    console.log(`serving ${url}/v1/models/digits_model:predict, and gRPC on 127.0.0.1:${service.grpcPort}`)
    await show(url, resolve(values.out))
    if (values.keep) await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  } finally {
    await service.drain()
    await telemetry.shutdown()
  }
}

async function show(url: string, out: string): Promise<void> {
  const digits = await heldOutDigits()
  const startedMs = performance.now()
  const predictions = await predict(url, digits)
  const tookMs = performance.now() - startedMs
  const wrong = predictions.filter(({ digit, answer }) => answer !== digit.digit)
  console.log(`\n${drawText(spread(predictions, shownInText))}\n`)
  if (wrong.length > 0) console.log(`Some of those that it took for another:\n\n${drawText(spread(wrong, shownInText))}\n`)
  await mkdir(dirname(out), { recursive: true })
  await writeFile(out, drawSvg(spread([...wrong, ...spread(predictions, shownInPicture - wrong.length)], shownInPicture), perRow))
  const share = accuracy(predictions)
  console.log(
    `${predictions.length - wrong.length} of ${predictions.length} held-out digits are right: accuracy ${share.toFixed(4)}, in ${Math.round(tookMs)} ms`,
  )
  console.log(`${shownInPicture} of them, and what the model made of them: ${out}`)
  if (share < leastAccuracy) throw new MeshError('FAILED_PRECONDITION', `accuracy ${share.toFixed(4)}: expected ${leastAccuracy} or more`)
}

/** So many of them, evenly from all. */
function spread(predictions: readonly Prediction[], count: number): readonly Prediction[] {
  const taken = Math.min(count, predictions.length)
  return Array.from({ length: Math.max(0, taken) }, (_, index) => predictions[Math.floor(((index + 0.5) * predictions.length) / taken)]!)
}

try {
  await main()
} catch (error) {
  const { code, message } = MeshError.from(error)
  const isUsage = (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
  console.error(isUsage ? `${message}\n\n${usage}` : `${code}: ${message}`)
  process.exitCode = isUsage ? 2 : 1
}
