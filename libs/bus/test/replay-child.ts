/** A replay to be killed: copies `<folder>/in.ndjson` to parts in `<folder>/parts`, and says how many records were answered; at the end `done`. */
import { join } from 'node:path'
import { FileSource } from '../src/replay/file-source.ts'
import { ReplayBus } from '../src/replay/replay-bus.ts'
import { PartSink } from './replay-fixture.ts'

const folder = process.argv[2]!
const bus = new ReplayBus({
  sources: [new FileSource({ topic: 'in', paths: [join(folder, 'in.ndjson')] })],
  sink: new PartSink(join(folder, 'parts')),
  checkpointPath: join(folder, 'checkpoint.json'),
  checkpointEveryMs: 3,
})
await bus.start(AbortSignal.timeout(10_000))
const limits = { from: 'earliest', maxSliceRecords: 40, maxSliceBytes: 1 << 20, concurrency: 1 } as const
const processor = bus.process({ topics: ['in'], group: 'copy', ...limits }, async ({ partition, records }) => {
  // Slow enough to be killed in the middle.
  await new Promise((resolve) => setTimeout(resolve, 1))
  process.stdout.write(`${bus.progress().records}\n`)
  return { writes: [{ topic: 'out', partition, records }] }
})
await processor.start(AbortSignal.timeout(10_000))
await bus.done()
await bus.drain()
process.stdout.write('done\n')
