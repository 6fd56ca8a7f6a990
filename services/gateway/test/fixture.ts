import { EmbeddedBus, recordsOf } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { DeadLetterDesk, DeadLetterPage, GatewayPipeline, PredictCall, PredictResult, Settled } from '@spillway/mesh'
import { createTelemetry } from '@spillway/telemetry'
import { onTestFinished } from 'vitest'
import { Gateway, type GatewayOptions } from '../src/mod.ts'

const decoder = new TextDecoder()
const partitions = 4

class NoDeadLetters implements DeadLetterDesk {
  async list(): Promise<DeadLetterPage> {
    return { letters: [] }
  }

  async show(position: string): Promise<never> {
    throw new MeshError('NOT_FOUND', `there is no letter ${position}`)
  }

  async settle(): Promise<Settled> {
    return { settled: 0, left: [] }
  }
}

/** A small pipeline: the score is a thousandth of the amount, the id is carried digit by digit, and 0.5 raises an alert. */
class AmountPipeline implements GatewayPipeline {
  readonly name = 'fraud'
  readonly topics = ['transactions', 'predictions'] as const
  readonly inputTopics = ['transactions'] as const
  readonly calls: PredictCall[] = []
  readonly deadLetters: DeadLetterDesk = new NoDeadLetters()

  keyOf(_topic: string, event: Uint8Array): Uint8Array | undefined {
    const customer = /"customer":\s*(\d+)/.exec(decoder.decode(event))?.[1]
    return customer === undefined ? undefined : Buffer.from(customer)
  }

  async predict(events: readonly Uint8Array[], call: PredictCall): Promise<readonly PredictResult[]> {
    this.calls.push(call)
    if (events.some((event) => decoder.decode(event).includes('"wait"'))) await aborted(call.signal)
    return events.map(score)
  }
}

function score(event: Uint8Array): PredictResult {
  const text = decoder.decode(event)
  const { amount } = JSON.parse(text) as { amount?: unknown }
  if (typeof amount !== 'number')
    return { error: new MeshError('INVALID_ARGUMENT', 'amount: expected a number', { field: 'amount' }), stage: 'preprocessing' }
  if (amount < 0) return { error: new MeshError('UNAVAILABLE', 'the model is away'), stage: 'cascade-router' }
  const prediction = Buffer.from(`{"id":${/"id":\s*(\d+)/.exec(text)?.[1] ?? 'null'},"score":${amount / 1000}}`)
  return amount >= 500 ? { prediction, alert: prediction } : { prediction }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

export interface Started {
  readonly gateway: Gateway
  readonly bus: EmbeddedBus
  readonly pipeline: AmountPipeline
  readonly url: string
  readonly publish: (topic: string, ...events: readonly object[]) => Promise<void>
  readonly metric: (name: string) => Promise<number>
}

/** A gateway over an embedded bus, on ports of its own; drained when the test ends. */
export async function startGateway(options: Partial<GatewayOptions> = {}): Promise<Started> {
  const telemetry = createTelemetry({ service: 'gateway', logLevel: 'silent', otlp: false })
  const bus = new EmbeddedBus({ path: ':memory:' })
  await bus.start(new AbortController().signal)
  await bus.topics.ensure(['transactions', 'predictions'].map((name) => ({ name, partitions })))
  const pipeline = new AmountPipeline()
  const gateway = new Gateway({ host: '127.0.0.1', httpPort: 0, grpcPort: 0, bus, pipelines: [pipeline], telemetry, ...options })
  await gateway.start()
  onTestFinished(async () => {
    await gateway.drain()
    await bus.drain()
    await telemetry.shutdown()
  })
  return {
    gateway,
    bus,
    pipeline,
    url: `http://127.0.0.1:${gateway.httpPort}`,
    publish: async (topic, ...events) => {
      await bus.publish(topic, recordsOf(events.map((event) => ({ key: JSON.stringify(event), value: JSON.stringify(event) }))))
    },
    metric: async (name) => {
      const line = (await telemetry.registry.metrics()).split('\n').find((candidate) => candidate.startsWith(`${name} `))
      return Number(line?.split(' ')[1])
    },
  }
}

export function post(url: string, body: string | Uint8Array, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body: body as NonNullable<RequestInit['body']>,
    headers: { 'content-type': 'application/json', ...headers },
  })
}

/** Waits for what a condition says, with a limit. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs = 10_000): Promise<void> {
  const endMs = Date.now() + limitMs
  while (!(await condition())) {
    if (Date.now() > endMs) throw new Error(`not within ${limitMs} ms: ${condition.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
