import { type NatsAddress, parseKafkaAddress, parseNatsAddress } from '@spillway/bus'
import { MeshError } from '@spillway/core'

export type BusAddress =
  | { readonly kind: 'embedded'; readonly path: string }
  | { readonly kind: 'kafka'; readonly brokers: readonly string[] }
  | { readonly kind: 'nats'; readonly settings: NatsAddress }

/** `kafka://host:port[,host:port]`, `nats://[user:password@]host:port[,host:port][?duplicate-window=10m&replicas=3]`, `embedded:FILE`. @throws MeshError INVALID_ARGUMENT */
export function parseBus(text: string): BusAddress {
  if (text.startsWith('kafka://')) return { kind: 'kafka', brokers: parseKafkaAddress(text) }
  if (text.startsWith('nats://')) return { kind: 'nats', settings: parseNatsAddress(text) }
  if (text.startsWith('embedded:')) return { kind: 'embedded', path: text.slice('embedded:'.length) }
  throw new MeshError('INVALID_ARGUMENT', `--bus ${text}: expected kafka://host:port, nats://host:port or embedded:FILE`, {
    field: '--bus',
  })
}
