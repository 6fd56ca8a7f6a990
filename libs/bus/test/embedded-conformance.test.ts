import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
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
    movePosition: (group, topic, partition, offset) => {
      const database = new DatabaseSync(join(folder, 'bus.db'), { timeout: 5000 })
      const log = database.prepare('SELECT id FROM bus_partitions WHERE topic = ? AND partition = ?').get(topic, partition)!['id']!
      database.prepare('UPDATE bus_positions SET next = ?, stamp = NULL WHERE consumer_group = ? AND log = ?').run(offset, group, log)
      database.close()
      return Promise.resolve()
    },
    close: async () => {
      await opened.close()
      rmSync(folder, { recursive: true })
    },
  }
})
