import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { defaultPorts, parsePeers, parseService, type ServiceName, serviceNames } from '../src/options.ts'
import { makeProgram } from '../src/program.ts'

interface ComposeService {
  readonly command?: string
  readonly environment?: Readonly<Record<string, unknown>>
  readonly ports?: readonly string[]
  readonly profiles?: readonly string[]
  readonly volumes?: readonly string[]
}

const root = join(import.meta.dirname, '..', '..')
const compose = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
  readonly services: Readonly<Record<string, ComposeService>>
  readonly volumes: Readonly<Record<string, unknown>>
}
const served = new Map<ServiceName, readonly string[]>(
  Object.values(compose.services).flatMap(({ command = '' }) => {
    const [serve, name, ...flags] = command.trim().split(/\s+/)
    return serve === 'serve' ? [[parseService(name!), flags]] : []
  }),
)

test('docker-compose.yml runs every service once, with flags that there are, on the example’s pipeline', async () => {
  expect([...served.keys()].toSorted()).toEqual(serviceNames.toSorted())
  const program = await makeProgram(['serve'])
  const known = program.commands.find((command) => command.name() === 'serve')!.options.map(({ long }) => long)
  for (const flags of served.values()) {
    expect(known).toEqual(expect.arrayContaining(flags.filter((flag) => flag.startsWith('--'))))
    expect(existsSync(join(root, flags[flags.indexOf('--pipeline') + 1]!))).toBe(true)
  }
})

test('its services find each other, and the host the gateway, at the ports that they listen on', () => {
  for (const flags of served.values()) {
    const peers = parsePeers(flags.filter((_, index) => flags[index - 1] === '--peer'))
    for (const [name, address] of peers) expect(address).toBe(`${name}:${defaultPorts[name].grpc}`)
  }
  const { http, grpc } = defaultPorts.gateway
  expect(compose.services['gateway']!.ports).toEqual([http, grpc].map((port) => `127.0.0.1:${port}:${port}`))
})

test('what must outlast its containers lies in volumes', () => {
  const mounts = (name: string): string[] => compose.services[name]!.volumes!.map((volume) => volume.split(':')[1]!)
  // The image would write to /tmp otherwise.
  expect(mounts('kafka')).toEqual([compose.services['kafka']!.environment!['KAFKA_LOG_DIRS']])
  for (const [name, flags] of served) if (flags.includes('--data')) expect(mounts(name)).toEqual([flags[flags.indexOf('--data') + 1]])
  const named = Object.values(compose.services).flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(':')[0]))
  expect(new Set(named)).toEqual(new Set(Object.keys(compose.volumes)))
})
