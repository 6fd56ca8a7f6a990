import { type Bus, EmbeddedBus, KafkaBus, NatsBus } from '@spillway/bus'
import type { Telemetry } from '@spillway/telemetry'
import type { BusAddress } from './bus-address.ts'

/** The bus of an address, not started. @param clientName what the broker calls this process */
export function makeBus(address: BusAddress, clientName: string, { logger }: Pick<Telemetry, 'logger'>): Bus {
  switch (address.kind) {
    case 'kafka':
      return new KafkaBus({ brokers: address.brokers, clientId: clientName, logger })
    case 'nats':
      return new NatsBus({ ...address.settings, clientName, logger })
    case 'embedded':
      return new EmbeddedBus({ path: address.path, logger })
  }
}
