import { createWriteStream, type WriteStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { column, MeshError } from '@spillway/core'
import { EmbeddedHistoryStore, exportFeatures, type ExportSlice, FeatureEngine } from '@spillway/features'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import { compileEventReader, type EventReader } from '@spillway/wire'
import { topicRecords } from './events.ts'
import { type PlayEvent, playEvents, type Topic } from './play-list.ts'
import type { Transaction } from './simulator.ts'
import { buildWorld, dayMs, fullSize, type World } from './world.ts'

const usage = `usage: node examples/fraud/src/export-features.ts --days N --out DIR [--seed N] [--from-day N] [--pipeline FILE]

Plays N simulated days through the pipeline's own event reader and feature engine, and writes for training
  DIR/features.f32   the vectors, FP32 little-endian, a row a transaction, from day --from-day on (37: every window is full by then)
  DIR/rows.csv       transaction_id, day, customer_id, fraud and scenario of each row
  DIR/columns.json   the vector's columns, and the simulation's settings`

/** Small against the week by which the labels' windows are delayed: neither topic is ever ahead of the other by more than minutes. */
const sliceEvents = 1000

interface Export {
  readonly world: World
  readonly days: number
  readonly fromDay: number
  readonly pipeline: Pipeline
  readonly directory: string
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      days: { type: 'string' },
      out: { type: 'string' },
      seed: { type: 'string', default: '1' },
      'from-day': { type: 'string', default: '37' },
      pipeline: { type: 'string', default: join(import.meta.dirname, '..', 'pipeline.yaml') },
    },
  })
  const [days, seed, fromDay] = [values.days, values.seed, values['from-day']].map(Number) as [number, number, number]
  if (values.out === undefined || ![days, seed, fromDay].every((each) => Number.isInteger(each) && each >= 0))
    throw new MeshError('INVALID_ARGUMENT', usage)
  const settings = { ...fullSize, seed }
  await mkdir(values.out, { recursive: true })
  const pipeline = await loadPipeline(values.pipeline)
  await writeExport({ world: buildWorld(settings), days, fromDay, pipeline, directory: values.out })
  const description = { vector: pipeline.features.vector.names, simulation: { ...settings, days, fromDay } }
  await writeFile(join(values.out, 'columns.json'), `${JSON.stringify(description, null, 2)}\n`)
}

async function writeExport(job: Export): Promise<void> {
  const store = new EmbeddedHistoryStore({ path: ':memory:', cacheBytes: 1 << 30 })
  await store.start(new AbortController().signal)
  const vectors = createWriteStream(join(job.directory, 'features.f32'))
  const rows = createWriteStream(join(job.directory, 'rows.csv'))
  rows.write('transaction_id,day,customer_id,fraud,scenario\n')
  // What the engine gave back of each slice is matched with the transactions that went in, by id.
  const given = new Map<string, Transaction>()
  for await (const { batch, failures } of exportFeatures(new FeatureEngine({ plan: job.pipeline.features, store }), slices(job, given))) {
    const [failure] = failures
    if (failure !== undefined) throw failure.error
    const vector = column(batch, job.pipeline.features.vector.column).data as Float32Array
    const width = job.pipeline.features.vector.width
    for (const [row, id] of batch.meta.ids.entries()) {
      const transaction = given.get(id)!
      given.delete(id)
      const day = Math.floor((transaction.timeMs - job.world.startMs) / dayMs)
      if (day < job.fromDay) continue
      const own = vector.slice(row * width, (row + 1) * width)
      await write(vectors, new Uint8Array(own.buffer))
      await write(rows, `${id},${day},${transaction.customerId},${transaction.fraud ? 1 : 0},${transaction.scenario}\n`)
    }
  }
  await Promise.all([close(vectors), close(rows), store.drain()])
}

/** The play list as the pipeline reads it from its topics: as JSON, a slice of each topic in turn. */
function* slices({ world, days, pipeline }: Export, given: Map<string, Transaction>): Generator<ExportSlice> {
  const readers = new Map<Topic, EventReader>()
  for (const topic of ['transactions', 'labels'] as const) {
    const input = pipeline.inputs.get(topic)
    if (input === undefined) throw new MeshError('INVALID_ARGUMENT', `the pipeline has no input "${topic}"`, { field: 'inputs' })
    readers.set(topic, compileEventReader(input.definition))
  }
  for (const events of chunks(world, days)) {
    for (const { topic, transaction } of events) if (topic === 'transactions') given.set(String(transaction.transactionId), transaction)
    for (const [topic, reader] of readers) {
      const { batch, failures } = reader.read(topicRecords(events, topic), undefined, 0)
      const [failure] = failures
      if (failure !== undefined) throw failure.error
      if (batch.rowCount > 0) yield { input: topic, batch }
    }
  }
}

function* chunks(world: World, days: number): Generator<readonly PlayEvent[]> {
  let chunk: PlayEvent[] = []
  for (const event of playEvents(world)) {
    if (event.atMs >= world.startMs + days * dayMs) break
    chunk.push(event)
    if (chunk.length < sliceEvents) continue
    yield chunk
    chunk = []
  }
  yield chunk
}

async function write(stream: WriteStream, data: string | Uint8Array): Promise<void> {
  if (!stream.write(data)) await once(stream, 'drain')
}

async function close(stream: WriteStream): Promise<void> {
  stream.end()
  await finished(stream)
}

try {
  await main()
} catch (thrown) {
  const error = MeshError.from(thrown)
  process.stderr.write(`${error.message}\n`)
  process.exitCode = error.code === 'INVALID_ARGUMENT' ? 2 : 1
}
