// A process of overload.ts: the callers, so that their work is not the server's.
import { Agent, request as httpRequest } from 'node:http'
import { MeshError } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { atRate } from './load.ts'
import { percentile } from './rounds.ts'

export interface CallKind {
  readonly protocol: 'grpc' | 'rest'
  readonly events: number
}

export interface CallerTarget extends CallKind {
  readonly port: number
  readonly pipeline: string
  readonly deadlineMs: number
}

/** `closed`: callers that wait for their answers; `open`: calls at a steady rate, whatever becomes of them. */
export type CallerLoad = { readonly seconds: number } & (
  | { readonly kind: 'closed'; readonly callers: number }
  | { readonly kind: 'open'; readonly perSecond: number }
)

export type CallerTask = CallerTarget & CallerLoad

export interface CallerReport {
  readonly served: number
  readonly refused: number
  /** Out of time, or failed. */
  readonly late: number
  /** Of the served. */
  readonly p99Ms: number
}

type Outcome = 'served' | 'refused' | 'late'

interface Caller {
  call(): Promise<Outcome>
  close(): Promise<void>
}

const event = Buffer.from('{"transaction_id":1,"customer_id":1,"terminal_id":1,"amount":12.5,"tx_datetime":"2018-05-20T12:00:00Z"}')

async function grpcCaller({ port, pipeline, events, deadlineMs }: CallerTarget): Promise<Caller> {
  const telemetry = createTelemetry({ service: 'callers', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: `127.0.0.1:${port}`, telemetry })
  await channel.start()
  const request = { pipeline, events: new Array<Buffer>(events).fill(event) }
  return {
    call: async () => {
      try {
        await channel.unary(predictionV1.PredictionService.predict, request, { deadlineMs: Date.now() + deadlineMs })
        return 'served'
      } catch (error) {
        return MeshError.from(error).code === 'RESOURCE_EXHAUSTED' ? 'refused' : 'late'
      }
    },
    close: () => channel.drain(),
  }
}

function restCaller({ port, pipeline, events, deadlineMs }: CallerTarget, connections: number): Caller {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const body = Buffer.from(events === 1 ? `{"event":${event.toString()}}` : `{"events":[${new Array(events).fill(event).join(',')}]}`)
  const headers = { 'content-type': 'application/json', 'content-length': body.length, 'x-spillway-timeout-ms': deadlineMs }
  const options = { agent, host: '127.0.0.1', port, method: 'POST', path: `/v1/pipelines/${pipeline}:predict`, headers }
  return {
    call: () =>
      new Promise((resolve) => {
        const sent = httpRequest(options, (answer) => {
          const outcome = answer.statusCode === 200 ? 'served' : answer.statusCode === 429 ? 'refused' : 'late'
          answer.resume().once('end', () => resolve(outcome))
        })
        sent.once('error', () => resolve('late'))
        sent.end(body)
      }),
    close: () => Promise.resolve(agent.destroy()),
  }
}

async function run(task: CallerTask): Promise<CallerReport> {
  const caller = task.protocol === 'grpc' ? await grpcCaller(task) : restCaller(task, task.kind === 'closed' ? task.callers : 256)
  const counts = { served: 0, refused: 0, late: 0 }
  const latencies: number[] = []
  const call = async (): Promise<void> => {
    const startedMs = performance.now()
    const outcome = await caller.call()
    counts[outcome]++
    if (outcome === 'served') latencies.push(performance.now() - startedMs)
  }
  if (task.kind === 'closed') {
    const endMs = performance.now() + task.seconds * 1000
    const loop = async (): Promise<void> => {
      while (performance.now() < endMs) await call()
    }
    await Promise.all(Array.from({ length: task.callers }, loop))
  } else {
    const calls = new Set<Promise<void>>()
    await atRate(task.perSecond, Math.round(task.perSecond * task.seconds), (from, to) => {
      for (let i = from; i < to; i++) {
        const made = call().finally(() => calls.delete(made))
        calls.add(made)
      }
    })
    await Promise.all(calls)
  }
  await caller.close()
  return { ...counts, p99Ms: percentile(latencies, 0.99) }
}

process.once('message', (task: CallerTask) => {
  void run(task).then((report) => process.send!(report, () => process.disconnect()))
})
