// A thread of overload.ts: the callers, so that their work is not the server's.
import { parentPort, workerData } from 'node:worker_threads'
import { MeshError } from '@spillway/core'
import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { atRate } from './load.ts'
import { percentile } from './rounds.ts'

export interface CallerTarget {
  readonly address: string
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
  /** Of this thread. */
  readonly cpuUs: number
}

const event = Buffer.from('{"transaction_id":1,"customer_id":1,"terminal_id":1,"amount":12.5,"tx_datetime":"2018-05-20T12:00:00Z"}')

async function run(task: CallerTask): Promise<CallerReport> {
  const telemetry = createTelemetry({ service: 'callers', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: task.address, telemetry })
  await channel.start()
  const request = { pipeline: task.pipeline, events: [event] }
  const latencies: number[] = []
  let refused = 0
  let late = 0
  const call = async (): Promise<void> => {
    const startedMs = performance.now()
    try {
      await channel.unary(predictionV1.PredictionService.predict, request, { deadlineMs: Date.now() + task.deadlineMs })
      latencies.push(performance.now() - startedMs)
    } catch (error) {
      if (MeshError.from(error).code === 'RESOURCE_EXHAUSTED') refused++
      else late++
    }
  }
  const before = process.threadCpuUsage()
  if (task.kind === 'closed') {
    const endMs = performance.now() + task.seconds * 1000
    const caller = async (): Promise<void> => {
      while (performance.now() < endMs) await call()
    }
    await Promise.all(Array.from({ length: task.callers }, caller))
  } else {
    const calls: Promise<void>[] = []
    await atRate(task.perSecond, Math.round(task.perSecond * task.seconds), (from, to) => {
      for (let i = from; i < to; i++) calls.push(call())
    })
    await Promise.all(calls)
  }
  const used = process.threadCpuUsage(before)
  await channel.drain()
  return { served: latencies.length, refused, late, p99Ms: percentile(latencies, 0.99), cpuUs: used.user + used.system }
}

const report = await run(workerData as CallerTask)
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window.
parentPort!.postMessage(report)
