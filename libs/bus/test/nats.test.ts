import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { connect } from '@nats-io/transport-node'
import { afterAll, test } from 'vitest'
import { sharedNats } from '../../../test/brokers/shared.ts'
import { NatsBus } from '../src/nats/nats-bus.ts'
import { positionKey, positionsBucket, streamOf } from '../src/nats/names.ts'
import { busConformance } from './conformance.ts'

const nats = await sharedNats()
if ('skipped' in nats) test.skip(`NATS bus: ${nats.skipped}`, () => {})
else {
  const connection = await connect({ servers: [...nats.servers] })
  const manager = await jetstreamManager(connection)
  afterAll(async () => {
    await connection.close()
    await nats.stop()
  })

  const startBus = async (): Promise<NatsBus> => {
    const bus = new NatsBus({ servers: nats.servers, sessionTimeoutMs: 3000 })
    await bus.start(AbortSignal.timeout(10_000))
    return bus
  }
  busConformance('nats', async () => {
    const buses = [await startBus()]
    return {
      bus: buses[0]!,
      secondInstance: async () => {
        buses.push(await startBus())
        return buses.at(-1)!
      },
      dropBefore: async (topic, partition, offset) => {
        await manager.streams.purge(streamOf(topic, partition), { seq: Number(offset) + 1 })
      },
      movePosition: async (group, topic, partition, offset) => {
        const positions = await new Kvm(jetstream(connection)).open(positionsBucket)
        await positions.put(positionKey(group, topic, partition), JSON.stringify({ next: String(offset) }))
      },
      close: async () => {
        await Promise.all(buses.map((bus) => bus.drain()))
      },
    }
  })
}
