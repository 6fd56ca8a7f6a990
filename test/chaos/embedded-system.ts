import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { EmbeddedBus } from '@spillway/bus'
import type { BrokerFaults } from '../brokers/mod.ts'
import { blocks } from '../checker/read-gateway.ts'
import type { CheckedRecord } from '../checker/record.ts'
import { type FraudNames, fraudNames, writePipeline } from '../e2e/fraud-run.ts'
import { readBus } from '../e2e/read-bus.ts'
import type { FaultyProxy } from './faulty-proxy.ts'
import { Instance } from './instance.ts'
import type { Menu } from './plan.ts'
import { freePorts } from '../brokers/ports.ts'
import { metricsLag, type NewRecord, type System, transactionIdOf } from './system.ts'

/** `spillway up`: everything in one process, reached through its gateway. */
export class EmbeddedSystem implements System {
  readonly names: FraudNames = fraudNames('chaos-up')
  readonly partitions = 8
  readonly menu: Menu = { instances: ['up-1'], links: [], servers: [], scalable: [], sessionTimeoutMs: 2000 }
  readonly instances: ReadonlyMap<string, Instance>
  readonly links: ReadonlyMap<string, FaultyProxy> = new Map()
  readonly servers: ReadonlyMap<'broker' | 'redis', BrokerFaults> = new Map()
  readonly #folder: string
  readonly #data: string
  readonly #base: string

  private constructor(folder: string, ports: readonly number[]) {
    this.#folder = folder
    this.#data = join(folder, 'data')
    this.#base = `http://127.0.0.1:${ports[0]}`
    const pipeline = writePipeline(folder, this.names, { predictions: { features: true } })
    const [httpPort, grpcPort, modelHttpPort, modelGrpcPort] = ports as [number, number, number, number]
    const options = [
      '--http-port',
      httpPort,
      '--grpc-port',
      grpcPort,
      '--model-http-port',
      modelHttpPort,
      '--model-grpc-port',
      modelGrpcPort,
    ].map(String)
    const command = ['up', '--pipeline', pipeline, '--data', this.#data, ...options]
    this.instances = new Map([['up-1', new Instance({ name: 'up-1', httpPort, folder, arguments: command })]])
  }

  static async start(): Promise<EmbeddedSystem> {
    const folder = mkdtempSync(join(tmpdir(), 'spillway-chaos-'))
    const system = new EmbeddedSystem(folder, await freePorts(4))
    try {
      const [instance] = system.instances.values()
      instance!.start()
      await instance!.ready(60_000)
    } catch (error) {
      await system.close()
      throw error
    }
    return system
  }

  add(): Promise<Instance> {
    throw new Error('the embedded bus belongs to one process')
  }

  remove(): Promise<void> {
    throw new Error('the embedded bus belongs to one process')
  }

  async publish(topic: 'transactions' | 'labels', records: readonly NewRecord[]): ReturnType<System['publish']> {
    const name = this.names[topic]
    const response = await fetch(`${this.#base}/v1/topics/${name}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson' },
      body: records.map(({ value }) => value).join('\n'),
      signal: AbortSignal.timeout(20_000),
    })
    if (!response.ok) throw new Error(`publishing to ${name}: ${response.status} ${await response.text()}`)
    const { positions } = (await response.json()) as { positions: { partition: number; offset: string }[] }
    return positions.map(({ partition, offset }) => ({ topic: name, partition, offset: Number(offset) }))
  }

  /** As any client of the gateway: after a lost connection it goes on behind the last event that it saw. */
  async watch(onPrediction: (transactionId: number) => void, signal: AbortSignal): Promise<void> {
    let last = ''
    while (!signal.aborted) {
      try {
        const url = `${this.#base}/v1/topics/${this.names.predictions}/events?from=earliest`
        const response = await fetch(url, { signal, headers: last === '' ? {} : { 'last-event-id': last } })
        if (!response.ok || response.body === null) throw new Error(`${response.status} ${await response.text()}`)
        for await (const { id, data } of blocks(response.body)) {
          last = id
          if (data !== undefined) onPrediction(transactionIdOf(data))
        }
      } catch {
        // The process is away: that is what is tried here.
      }
      if (!signal.aborted) await wait(50)
    }
  }

  lag(): Promise<number> {
    return metricsLag(this.instances.values(), this.partitions * 3)
  }

  async read(topic: string): Promise<readonly CheckedRecord[]> {
    const bus = new EmbeddedBus({ path: join(this.#data, `${this.names.pipeline}.db`) })
    await bus.start(AbortSignal.timeout(20_000))
    try {
      return await readBus(bus, topic)
    } finally {
      await bus.drain()
    }
  }

  async close(): Promise<void> {
    for (const instance of this.instances.values()) await instance.end('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
