import { MeshError } from '@spillway/core'

/** Every service of the mesh, as `spillway serve` names them. */
export const serviceNames = ['gateway', 'preprocessing', 'cascade-router', 'model', 'postprocessing'] as const
export type ServiceName = (typeof serviceNames)[number]

/** Default ports of each service: HTTP (health, metrics; the gateway's REST) and gRPC. */
export const defaultPorts: Readonly<Record<ServiceName, { readonly http: number; readonly grpc: number }>> = {
  gateway: { http: 8080, grpc: 8081 },
  model: { http: 8000, grpc: 8001 },
  preprocessing: { http: 8100, grpc: 8101 },
  'cascade-router': { http: 8110, grpc: 8111 },
  postprocessing: { http: 8120, grpc: 8121 },
}

export type StoreAddress =
  /** `path` is absent where the file is the embedded bus's own, or lies in the data folder. */
  { readonly kind: 'embedded'; readonly path?: string } | { readonly kind: 'redis'; readonly url: string }

/** `embedded`, `embedded:FILE`, `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS. @throws MeshError INVALID_ARGUMENT */
export function parseStore(text: string): StoreAddress {
  if (text === 'embedded') return { kind: 'embedded' }
  const [, path] = /^embedded:(.+)$/.exec(text) ?? []
  if (path !== undefined) return { kind: 'embedded', path }
  if (/^rediss?:\/\/[^/]/.test(text) && URL.canParse(text)) return { kind: 'redis', url: text }
  throw new MeshError('INVALID_ARGUMENT', `--store ${text}: expected redis://host:port, embedded or embedded:FILE`, { field: '--store' })
}

export function parseService(text: string): ServiceName {
  const name = serviceNames.find((known) => known === text)
  if (name === undefined) throw new MeshError('INVALID_ARGUMENT', `there is no service "${text}": choose among ${serviceNames.join(', ')}`)
  return name
}

/** `service=host:port`, one a peer. @throws MeshError INVALID_ARGUMENT */
export function parsePeers(texts: readonly string[]): ReadonlyMap<ServiceName, string> {
  return new Map(
    texts.map((text) => {
      const [name = '', address = ''] = text.split('=', 2)
      if (!/^[^\s:]+:\d+$/.test(address))
        throw new MeshError('INVALID_ARGUMENT', `--peer ${text}: expected service=host:port, as in model=127.0.0.1:8001`)
      return [parseService(name), address]
    }),
  )
}

/** A port number. @throws MeshError INVALID_ARGUMENT */
export function parsePort(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new MeshError('INVALID_ARGUMENT', `"${text}" is no port: expected a number from 0 (any free port) to 65535`)
  return port
}

/** A whole number of at least 1. @throws MeshError INVALID_ARGUMENT */
export function parseCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1)
    throw new MeshError('INVALID_ARGUMENT', `"${text}" is no count: expected a whole number of at least 1`)
  return count
}
