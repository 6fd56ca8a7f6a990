import { lookup } from 'node:dns/promises'
import { MeshError } from '@spillway/core'

/**
 * A name that does not exist is a mistake, not an outage.
 * @param what is looked for, "Kafka broker" say
 * @param addresses `host:port` each
 * @throws MeshError UNAVAILABLE where no host's name exists
 */
export async function checkHosts(what: string, addresses: readonly string[]): Promise<void> {
  const hosts = [...new Set(addresses.map((address) => address.slice(0, address.lastIndexOf(':'))))]
  const failures = await Promise.all(
    hosts.map(async (host) =>
      lookup(host).then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error,
      ),
    ),
  )
  if (failures.every((failure) => failure?.code === 'ENOTFOUND'))
    throw new MeshError(
      'UNAVAILABLE',
      `no ${what}: the host ${hosts.map((host) => `"${host}"`).join(', ')} does not exist; check the address`,
      { cause: failures[0], field: 'bus' },
    )
}
