import { MeshError } from '@spillway/core'

/** What `--bus kafka://…` takes. */
const form = 'kafka://host:port[,host:port…], the port 9092 where left out'

/** The brokers of `kafka://host:9092,host2:9092`, as `host:port`. @throws MeshError INVALID_ARGUMENT */
export function parseKafkaAddress(address: string): readonly string[] {
  const refuse = (why: string): MeshError => new MeshError('INVALID_ARGUMENT', `"${address}" ${why}; expected ${form}`, { field: 'bus' })
  if (!address.startsWith('kafka://')) throw refuse('is no Kafka address')
  const parts = address.slice('kafka://'.length).replace(/\/$/, '').split(',')
  return parts.map((part) => {
    const match = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(\d{1,5}))?$/.exec(part.trim())
    if (match === null) throw refuse(part === '' ? 'names no broker' : `has "${part}", which is no host and port`)
    const port = Number(match[2] ?? 9092)
    if (port < 1 || port > 65_535) throw refuse(`has port ${port}, which is not in 1 to 65535`)
    return `${match[1]}:${port}`
  })
}
