import { NatsBus } from '../src/nats/nats-bus.ts'

/** A process to be killed or paused: copies each record of `input` to the same partition of `output`. Arguments: servers, group, input, output. Says `done` when nothing is left, and goes on. */
const [servers, group, input, output] = process.argv.slice(2) as [string, string, string, string]
const bus = new NatsBus({ servers: servers.split(','), sessionTimeoutMs: 2000 })
await bus.start(AbortSignal.timeout(20_000))
const limits = { from: 'earliest', maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: 4 } as const
const processor = bus.process({ topics: [input], group, ...limits }, async ({ partition, records }) => {
  // Slow enough to be killed in the middle.
  await new Promise((resolve) => setTimeout(resolve, 2))
  return { writes: [{ topic: output, partition, records }] }
})
await processor.start(AbortSignal.timeout(20_000))
console.log('started')
for (;;) {
  const lags = await processor.lags()
  if (lags.length > 0 && lags.every(({ committedOffset, endOffset }) => committedOffset === endOffset)) break
  await new Promise((resolve) => setTimeout(resolve, 20))
}
console.log('done')
