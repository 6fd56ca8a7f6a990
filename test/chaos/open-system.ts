import { proxiedKafka, proxiedNats } from './brokers.ts'
import { DistributedSystem } from './distributed-system.ts'
import { EmbeddedSystem } from './embedded-system.ts'
import type { BusName, Links, System } from './system.ts'

export async function openSystem(bus: BusName, links: Links): Promise<System | { readonly skipped: string }> {
  switch (bus) {
    case 'kafka':
      return DistributedSystem.start({ links, startBroker: proxiedKafka })
    case 'nats':
      return DistributedSystem.start({ links, startBroker: proxiedNats })
    case 'embedded':
      return EmbeddedSystem.start()
  }
}
