import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Bus, recordsOf } from '@spillway/bus'
import { type Component } from '@spillway/core'
import { parsePipeline, type Pipeline } from '@spillway/mesh'
import { onTestFinished } from 'vitest'
import { logisticModel, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { Host } from '../../src/host.ts'
import type { ServiceName } from '../../src/options.ts'
import { testTelemetry } from '../mesh-run.ts'

/** What the first tier makes of these is sure: accepted. Of 0 it is not: escalated. */
export const sure = -8
export const unsure = 0

export interface Prediction {
  readonly n: number
  readonly user: string
  readonly tier: string
  readonly reason: string
  readonly degraded: boolean
}

/** A folder with the first tier's model, removed when the test ends. */
export async function modelFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'spillway-pressure-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeModel(join(folder, 'models'), 'cheap', 1, logisticModel([1], 0))
  return folder
}

/** Two tiers, the second on a server of its own. */
export function twoTiers(folder: string, heavyPort: number, more: string): Pipeline {
  const source = `
pipeline: pressure
partitions: 4
inputs: { events: { id: n, key: user, fields: { n: integer, user: string, x: number } } }
features: { vector: [x] }
cascade: { tiers: [{ model: cheap, accept: { below: 0.1, above: 0.9 } }, { model: heavy, address: "127.0.0.1:${heavyPort}" }] }
outputs: { predictions: { include: [n, user] } }
${more}
`
  return parsePipeline(source, join(folder, 'pipeline.yaml'))
}

export interface Service {
  readonly ports?: { readonly http: number; readonly grpc: number }
  readonly peers?: ReadonlyMap<ServiceName, string>
}

const free = { http: 0, grpc: 0 }

/** A process's services, started in this one and drained when the test ends. */
export async function startHost(
  pipeline: Pipeline,
  services: readonly ServiceName[],
  { ports = free, peers = new Map<ServiceName, string>() }: Service = {},
): Promise<Host> {
  const host = new Host({
    pipeline,
    services: new Set(services),
    bus: { kind: 'embedded', path: join(pipeline.folder, `${services.join('-')}.db`) },
    dataPath: pipeline.folder,
    host: '127.0.0.1',
    ports: new Map(services.map((service) => [service, ports])),
    peers,
    telemetry: testTelemetry(),
  })
  await host.start(AbortSignal.timeout(60_000))
  endsWithTest(host)
  return host
}

export function endsWithTest(component: Pick<Component, 'drain'>): void {
  onTestFinished(() => component.drain())
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

export function eventOf(n: number, user: string, x: number): { key: string; value: string } {
  return { key: user, value: JSON.stringify({ n, user, x }) }
}

export async function publish(bus: Bus, events: readonly { key: string; value: string }[]): Promise<void> {
  await bus.publish('events', recordsOf(events))
}
