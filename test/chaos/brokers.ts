import { type Bus, KafkaBus, NatsBus } from '@spillway/bus'
import { startKafka, startNats } from '../brokers/mod.ts'
import { readKafka } from '../checker/read-kafka.ts'
import { readBus } from '../e2e/read-bus.ts'
import type { ProxiedBroker } from './distributed-system.ts'

type Started = Promise<ProxiedBroker | { readonly skipped: string }>

/** Kafka clients go where the broker tells them to: it has a listener for each proxy, and names the proxy there. */
export async function proxiedKafka(proxyPorts: readonly number[]): Started {
  const broker = await startKafka({ withFaults: true, advertisedPorts: proxyPorts })
  if ('skipped' in broker) return broker
  return {
    address: (port) => `kafka://127.0.0.1:${port}`,
    port: portOf(broker.brokers),
    targetPorts: broker.proxiedPorts!,
    faults: broker.faults!,
    open: () => new KafkaBus({ brokers: broker.brokers, clientId: 'chaos' }),
    // Seen by another client than the one that wrote it.
    read: (topic) => readKafka(broker.brokers, topic, 180_000),
    stop: () => broker.stop(),
  }
}

/** A NATS server of its own names no other address to its clients. */
export async function proxiedNats(proxyPorts: readonly number[]): Started {
  const server = await startNats({ withFaults: true })
  if ('skipped' in server) return server
  const port = portOf(server.servers)
  const open = (): Bus => new NatsBus({ servers: server.servers, clientName: 'chaos' })
  return {
    address: (at) => `nats://127.0.0.1:${at}`,
    port,
    targetPorts: proxyPorts.map(() => port),
    faults: server.faults!,
    open,
    read: async (topic) => {
      const bus = open()
      await bus.start(AbortSignal.timeout(30_000))
      try {
        return await readBus(bus, topic)
      } finally {
        await bus.drain()
      }
    },
    stop: () => server.stop(),
  }
}

function portOf(addresses: readonly string[]): number {
  return Number(addresses[0]!.split(':').at(-1))
}
