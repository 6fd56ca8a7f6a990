import { MeshError, parseDurationMs } from '@spillway/core'

/** What `--bus nats://…` says. */
export interface NatsAddress {
  /** `host:port` each. */
  readonly servers: readonly string[]
  readonly user?: string
  readonly password?: string
  /** `?duplicate-window=`, as in `10m`. */
  readonly duplicateWindowMs?: number
  /** `?replicas=`, 1 to 5. */
  readonly replicas?: number
}

const form = 'nats://[user:password@]host:port[,host:port…][?duplicate-window=10m&replicas=3], the port 4222 where left out'

/** @throws MeshError INVALID_ARGUMENT */
export function parseNatsAddress(address: string): NatsAddress {
  const refuse = (why: string): MeshError => new MeshError('INVALID_ARGUMENT', `"${address}" ${why}; expected ${form}`, { field: 'bus' })
  const match = /^nats:\/\/(?:([^@/?]*)@)?([^@/?]*)\/?(?:\?(.*))?$/.exec(address)
  if (match === null) throw refuse('is no NATS address')
  const [, credentials, hosts = '', query = ''] = match
  return {
    servers: hosts.split(',').map((host) => parseServer(host, refuse)),
    ...parseCredentials(credentials, refuse),
    ...parseQuery(query, refuse),
  }
}

type Refuse = (why: string) => MeshError

function parseServer(text: string, refuse: Refuse): string {
  const match = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(\d{1,5}))?$/.exec(text.trim())
  if (match === null) throw refuse(text === '' ? 'names no server' : `has "${text}", which is no host and port`)
  const port = Number(match[2] ?? 4222)
  if (port < 1 || port > 65_535) throw refuse(`has port ${port}, which is not in 1 to 65535`)
  return `${match[1]}:${port}`
}

function parseCredentials(text: string | undefined, refuse: Refuse): Pick<NatsAddress, 'user' | 'password'> {
  if (text === undefined) return {}
  const [user, password, ...more] = text.split(':')
  if (!user || password === undefined || more.length > 0) throw refuse('has credentials that are not user:password')
  return { user: decodeURIComponent(user), password: decodeURIComponent(password) }
}

function parseQuery(query: string, refuse: Refuse): Pick<NatsAddress, 'duplicateWindowMs' | 'replicas'> {
  let settings: Pick<NatsAddress, 'duplicateWindowMs' | 'replicas'> = {}
  for (const [name, value] of new URLSearchParams(query)) {
    if (name === 'duplicate-window') settings = { ...settings, duplicateWindowMs: parseDurationMs(value) }
    else if (name === 'replicas' && /^[1-5]$/.test(value)) settings = { ...settings, replicas: Number(value) }
    else throw refuse(`has ${name}=${value}, which is no setting`)
  }
  return settings
}
