import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { KafkaBus, NatsBus, parseKafkaAddress, parseNatsAddress } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import { eventJson } from './events.ts'
import { type PlayEvent, playEvents } from './play-list.ts'
import { SimulationPlayer } from './player.ts'
import { buildWorld, dayMs, fullSize, type SimulationSettings, smallSize } from './world.ts'

const usage = `usage: npx node examples/fraud/src/main.ts simulate --days N --out DIR [--seed N] [--small] [--start-date YYYY-MM-DD]
       npx node examples/fraud/src/main.ts play --bus (kafka://HOST:PORT | nats://HOST:PORT) [--rate N] [--seed N] [--small] [--start-date YYYY-MM-DD]

simulate writes DIR/transactions.ndjson and DIR/labels.ndjson, one event a line, each file in the order in which its events become known, and
DIR/simulation.json, the settings that make them again.
play publishes them to the topics transactions and labels, N (1000) transactions a second, until Ctrl-C; started again it goes on where it stopped.`

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      days: { type: 'string' },
      out: { type: 'string' },
      bus: { type: 'string' },
      rate: { type: 'string', default: '1000' },
      seed: { type: 'string', default: '1' },
      small: { type: 'boolean', default: false },
      'start-date': { type: 'string', default: fullSize.startDate },
    },
  })
  const settings = { ...(values.small ? smallSize : fullSize), seed: wholeNumber('seed', values.seed), startDate: values['start-date'] }
  if (positionals[0] === 'play' && values.bus !== undefined) return play(settings, values.bus, wholeNumber('rate', values.rate))
  if (positionals[0] !== 'simulate' || values.out === undefined) throw new MeshError('INVALID_ARGUMENT', usage)
  const days = wholeNumber('days', values.days)
  await mkdir(values.out, { recursive: true })
  await writeEvents(settings, days, values.out)
  await writeFile(join(values.out, 'simulation.json'), `${JSON.stringify({ ...settings, days }, null, 2)}\n`)
}

async function play(settings: SimulationSettings, address: string, transactionsPerS: number): Promise<void> {
  const clientName = 'fraud-player'
  const bus = address.startsWith('nats://')
    ? new NatsBus({ ...parseNatsAddress(address), clientName })
    : new KafkaBus({ brokers: parseKafkaAddress(address), clientId: clientName })
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort())
  await bus.start(stopping.signal)
  await bus.topics.ensure(['transactions', 'labels'].map((name) => ({ name, partitions: 8 })))
  const onRetry = (error: MeshError, delayMs: number): void => console.error(`publishing failed, again in ${delayMs} ms: ${error.message}`)
  const player = new SimulationPlayer({ bus, settings, transactionsPerS, onRetry })
  await player.start(stopping.signal)
  console.log(`playing ${transactionsPerS} transactions a second into ${address}`)
  if (!stopping.signal.aborted) await once(stopping.signal, 'abort')
  await player.drain()
  await bus.drain()
  const { transactions, labels } = player.progress()
  console.log(`stopped after ${transactions} transactions and ${labels} labels`)
}

async function writeEvents(settings: SimulationSettings, days: number, directory: string): Promise<void> {
  const files = {
    transactions: createWriteStream(join(directory, 'transactions.ndjson')),
    labels: createWriteStream(join(directory, 'labels.ndjson')),
  }
  for (const event of until(settings, days)) {
    const file = files[event.topic]
    if (!file.write(`${eventJson(event)}\n`)) await once(file, 'drain')
  }
  for (const file of Object.values(files)) {
    file.end()
    await finished(file)
  }
}

function* until(settings: SimulationSettings, days: number): Generator<PlayEvent> {
  const world = buildWorld(settings)
  for (const event of playEvents(world)) {
    if (event.atMs >= world.startMs + days * dayMs) return
    yield event
  }
}

function wholeNumber(option: string, text: string | undefined): number {
  const number = Number(text)
  if (text === undefined || !Number.isInteger(number) || number < 0)
    throw new MeshError('INVALID_ARGUMENT', `--${option} must be a whole number\n${usage}`)
  return number
}

try {
  await main()
} catch (thrown) {
  process.stderr.write(`${MeshError.from(thrown).message}\n`)
  process.exitCode = thrown instanceof MeshError && thrown.code === 'INVALID_ARGUMENT' ? 2 : 1
}
