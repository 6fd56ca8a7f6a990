import { existsSync, writeSync } from 'node:fs'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'

/**
 * A process that is paused in the middle of a slice: copies `input` to `output` with the header `by: zombie`, and holds its first slice, its whole thread
 * with it, until the file `gate` is there: what comes next is the commit, before it can hear from anyone. Arguments: brokers, group, input, output,
 * gate. Says `holding`, and each event.
 */
const [brokers, group, input, output, gate] = process.argv.slice(2) as [string, string, string, string, string]
const bus = new KafkaBus({ brokers: brokers.split(','), sessionTimeoutMs: 2000 })
await bus.start(AbortSignal.timeout(20_000))
const say = (line: string): void => void writeSync(1, `${line}\n`)
const limits = { from: 'earliest', maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: 4 } as const
let held = false
const processor = bus.process(
  {
    topics: [input],
    group,
    ...limits,
    onEvent: (event) => say('error' in event ? `${event.kind} ${event.error.code} ${event.error.message}` : event.kind),
  },
  ({ partition, records }) => {
    if (!held) say('holding')
    held = true
    while (!existsSync(gate)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    const headers = Array.from({ length: records.count }, () => ({ by: 'zombie' }))
    return Promise.resolve({ writes: [{ topic: output, partition, records: { ...records, headers } }] })
  },
)
await processor.start(AbortSignal.timeout(20_000))
