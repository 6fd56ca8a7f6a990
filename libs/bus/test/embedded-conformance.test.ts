import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EmbeddedBus } from '../src/embedded/embedded-bus.ts'
import { type BusHarness, busConformance } from './conformance.ts'

async function harness(path: string): Promise<BusHarness> {
  const bus = new EmbeddedBus({ path })
  await bus.start(AbortSignal.timeout(5000))
  return {
    bus,
    dropBefore: (topic, partition, offset) => Promise.resolve(bus.dropBefore(topic, partition, offset)),
    close: () => bus.drain(),
  }
}

busConformance('embedded, in memory', () => harness(':memory:'))

busConformance('embedded, in a file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-bus-'))
  const opened = await harness(join(folder, 'bus.db'))
  return {
    ...opened,
    close: async () => {
      await opened.close()
      rmSync(folder, { recursive: true })
    },
  }
})
