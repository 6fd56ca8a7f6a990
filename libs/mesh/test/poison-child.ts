import { type Bus, EmbeddedBus, KafkaBus } from '@spillway/bus'
import { type Batch, systemClock, takeRows, text, withColumns } from '@spillway/core'
import { parsePipeline } from '../src/mod.ts'
import { Segment } from '../src/segment.ts'
import type { Sink } from '../src/sinks.ts'
import { EventSource, FrameSource } from '../src/sources.ts'
import { metrics, runnerOf, telemetry, through } from './fixture.ts'

/**
 * A process with one segment, from `<prefix>-<entry>` to `<prefix>-predictions`, whose stage ends the process over an event named `poison…`.
 * Arguments: `embedded` or `kafka`, the bus's file or brokers, prefix, `events` or `frames`, partitions. Says `done` when nothing is left, and goes on.
 */
const [kind, address, prefix, entry, partitions] = process.argv.slice(2) as [string, string, string, 'events' | 'frames', string]
const bus: Bus =
  kind === 'embedded' ? new EmbeddedBus({ path: address }) : new KafkaBus({ brokers: address.split(','), sessionTimeoutMs: 2000 })
const topic = (name: string): string => `${prefix}-${name}`
const pipeline = parsePipeline(
  `{ pipeline: test, partitions: ${partitions}, inputs: { events: { topic: ${topic('events')}, key: name, fields: { name: string, x: number } } },
     cascade: { tiers: [{ model: m }] }, deadLetters: { topic: ${topic('dead-letters')} } }`,
  'poison.yaml',
)
const input = pipeline.inputs.get('events')!
const source =
  entry === 'events'
    ? new EventSource(pipeline, input, 'stage')
    : new FrameSource({ stage: 'stage', schema: 's', maxRows: 1000, late: pipeline.deadline.late })
const stage = (batch: Batch): ReturnType<typeof through> => {
  // As a native crash does: no handler runs, no file is flushed.
  if (batch.meta.keys.some((key) => key.startsWith('poison'))) process.abort()
  return through('predictions', withColumns(takeRows(batch, [...batch.meta.ids.keys()]), [['event', text(batch.meta.keys)]]))
}
const exits = { predictions: { kind: 'sink', sink: topic('predictions') } } as const
const segment = new Segment({
  plan: {
    name: 'segment',
    service: 'preprocessing',
    group: `${prefix}-group`,
    sources: [{ topic: topic(entry), stage: 'stage', ...(entry === 'events' && { input: 'events' }) }],
  },
  pipeline,
  bus,
  entries: new Map([[topic(entry), { source, runner: runnerOf(stage, exits), answers: true }]]),
  sinks: new Map<string, Sink>([[topic('predictions'), { kind: 'events', type: 'test.prediction', answers: true }]]),
  telemetry,
  metrics,
  clock: systemClock,
})
await bus.start(AbortSignal.timeout(20_000))
await segment.start(AbortSignal.timeout(20_000))
for (;;) {
  if (segment.lags.length === Number(partitions) && segment.lags.every((lag) => lag.committedOffset === lag.endOffset)) break
  await new Promise((resolve) => setTimeout(resolve, 20))
}
process.stdout.write('done\n')
