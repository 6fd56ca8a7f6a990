/**
 * A process of its own for the tests that kill it. Arguments: file, round, mode.
 * `work`: publishes `<round>-<number>` to `in` and copies `in` to `out`, for ever; prints the number of each acknowledged batch's last record.
 * `hold`: opens the file, prints `open`, and stays.
 */
import { EmbeddedBus } from '../src/embedded/embedded-bus.ts'
import { recordsOf, sliceRecords } from '../src/records.ts'

const [path, round, mode] = process.argv.slice(2) as [string, string, string]
const bus = new EmbeddedBus({ path })
try {
  await bus.start(AbortSignal.timeout(5000))
} catch (thrown) {
  process.stdout.write(`refused ${(thrown as { code: string }).code} ${(thrown as Error).message}\n`)
  process.exit(3)
}

if (mode === 'hold') {
  process.stdout.write('open\n')
  setInterval(() => undefined, 1000)
} else {
  await bus.topics.ensure(['in', 'out'].map((name) => ({ name, partitions: 4 })))
  const limits = { maxSliceRecords: 50, maxSliceBytes: 1 << 20, concurrency: 4 }
  const processor = bus.process({ topics: ['in'], group: 'copy', from: 'earliest', ...limits }, async (slice) => {
    const consumed = Math.ceil(slice.records.count / 2)
    return { writes: [{ topic: 'out', partition: slice.partition, records: sliceRecords(slice.records, 0, consumed) }], consumed }
  })
  await processor.start(AbortSignal.timeout(5000))
  for (let number = 0; ; number += 20) {
    await bus.publish('in', recordsOf(Array.from({ length: 20 }, (_, i) => ({ key: `k${i % 7}`, value: `${round}-${number + i}` }))))
    process.stdout.write(`${number + 19}\n`)
  }
}
