import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bus, Records } from '@spillway/bus'
import { buildWorld, fullSize, type PlayEvent, playEvents, topicRecords } from '@spillway/example-fraud'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import { createTelemetry } from '@spillway/telemetry'
import { type BusAddress, Host, serviceNames } from 'spillway'

export const partitions = 8
export const sliceRecords = 1000

/** The first `transactions` transactions of the full-size simulation, and the labels that become known before the last of them. */
export function fraudEvents(transactions: number): readonly PlayEvent[] {
  const events: PlayEvent[] = []
  let seen = 0
  for (const event of playEvents(buildWorld(fullSize))) {
    if (event.topic === 'transactions' && seen++ === transactions) break
    events.push(event)
  }
  return events
}

/** Publishes all of one topic's events, 5,000 a call. */
export async function publishAll(bus: Bus, topic: string, records: Records): Promise<void> {
  for (let start = 0; start < records.count; start += 5000)
    await bus.publish(topic, rows(records, start, Math.min(records.count, start + 5000)))
}

export function rows(records: Records, start: number, end: number): Records {
  const cut = (column: Records['values']): Records['values'] => ({ bytes: column.bytes, offsets: column.offsets.subarray(start, end + 1) })
  return { count: end - start, keys: cut(records.keys!), values: cut(records.values) }
}

export { topicRecords }

export interface FraudTopics {
  readonly transactions: string
  readonly labels: string
}

/** The example's pipeline over given input topics, with output topics and groups of its own. */
export async function fraudPipeline(run: string, inputs: FraudTopics, placement: Partial<Pipeline['placement']> = {}): Promise<Pipeline> {
  const pipeline = await loadPipeline(fileURLToPath(new URL('../../examples/fraud/pipeline.yaml', import.meta.url)))
  return {
    ...pipeline,
    name: run,
    partitions,
    inputs: new Map([...pipeline.inputs].map(([name, input]) => [name, { ...input, topic: inputs[name as keyof FraudTopics] }])),
    predictions: { ...pipeline.predictions, topic: `${run}.predictions` },
    alerts: { ...pipeline.alerts, topic: `${run}.alerts` },
    deadLetterTopic: `${run}.dead-letters`,
    placement: { ...pipeline.placement, features: 'local', escalations: 'local', scored: 'local', models: 'local', ...placement },
    slices: { ...pipeline.slices, maxRecords: sliceRecords },
    topicOf: (link) => `${run}.${link}`,
    groupOf: (segment) => `${run}.${segment}`,
  }
}

/** All services in this process, on free ports, with data of their own. */
export function fraudHost(pipeline: Pipeline, bus: BusAddress): Host {
  const dataPath = mkdtempSync(join(tmpdir(), 'spillway-bench-'))
  const free = { http: 0, grpc: 0 }
  return new Host({
    pipeline,
    services: new Set(serviceNames),
    bus,
    dataPath,
    host: '127.0.0.1',
    ports: new Map([
      ['gateway', free],
      ['model', free],
    ]),
    peers: new Map(),
    telemetry: createTelemetry({ service: 'bench', logLevel: 'warn', otlp: false, logDestination: 2 }),
  })
}
