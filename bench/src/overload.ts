import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { fraudHost, fraudPipeline } from './fraud.ts'
import type { CallerLoad, CallerReport, CallerTask } from './overload-callers.ts'
import { figures, writeResult } from './rounds.ts'

const deadlineMs = 500
const closedCallers = 64
const maxInFlight = 128
const mib = 2 ** 20

interface Phase extends CallerReport {
  /** Of this process, its callers' thread left out. */
  readonly ownCpuUs: number
  readonly peakMiB: number
}

/** Predict over gRPC at twice what the process can serve: are the admitted answered in time, and what does a refusal cost? */
export async function benchOverload(seconds: number): Promise<void> {
  const { saturated, overloaded } = await withGateway(maxInFlight, async (run) => {
    await run({ kind: 'closed', callers: closedCallers, seconds: 2 })
    const closed = await run({ kind: 'closed', callers: closedCallers, seconds })
    return { saturated: closed, overloaded: await run({ kind: 'open', perSecond: (2 * closed.served) / seconds, seconds }) }
  })
  // Where one call at a time has room, nearly all are refused.
  const full = await withGateway(1, async (run) => {
    await run({ kind: 'closed', callers: closedCallers, seconds: 2 })
    return run({ kind: 'closed', callers: closedCallers, seconds: Math.min(seconds, 10) })
  })
  const servedUs = saturated.ownCpuUs / saturated.served
  const refusalUs = Math.max(0, full.ownCpuUs - full.served * servedUs) / full.refused
  const servedPerS = saturated.served / seconds
  writeResult({
    benchmark: 'overload',
    unit: 'calls/s',
    setup: `one event a call over one gRPC connection, callers in a thread of their own and counted out of the CPU; saturation: ${closedCallers} callers that wait for their answers; overload: ${Math.round(2 * servedPerS)} calls a second whatever becomes of them, each with ${deadlineMs} ms, for ${seconds} s; at most ${maxInFlight} in flight. Cost of a refusal: the same callers where one call at a time has room.`,
    figures: [
      figures('saturation', [servedPerS]),
      figures('overload, served', [overloaded.served / seconds]),
      figures('overload, refused', [overloaded.refused / seconds]),
      figures('overload, late', [overloaded.late / seconds]),
    ],
    target: `p99 of the admitted ≤ ${deadlineMs} ms, a refusal ≤ 5 % of a served call's CPU, memory bounded`,
    reached: `p99 ${overloaded.p99Ms.toFixed(0)} ms; a refusal ${refusalUs.toFixed(0)} µs, a served call ${servedUs.toFixed(0)} µs (${((refusalUs / servedUs) * 100).toFixed(0)} %); ${overloaded.peakMiB.toFixed(0)} MiB at most, ${saturated.peakMiB.toFixed(0)} at saturation`,
    met: overloaded.p99Ms <= deadlineMs && refusalUs <= 0.05 * servedUs,
  })
}

/** All services in this process, with room for so many calls. */
async function withGateway<T>(room: number, play: (run: (load: CallerLoad) => Promise<Phase>) => Promise<T>): Promise<T> {
  const loaded = await fraudPipeline('bench-overload', { transactions: 'transactions', labels: 'labels' })
  const pipeline = { ...loaded, calls: { ...loaded.calls, maxInFlight: room } }
  const host = fraudHost(pipeline, { kind: 'embedded', path: join(mkdtempSync(join(tmpdir(), 'spillway-overload-')), 'bus.db') })
  await host.start(AbortSignal.timeout(60_000))
  const target = { address: `127.0.0.1:${host.gateway.grpcPort}`, pipeline: pipeline.name, deadlineMs }
  try {
    return await play((load) => phase({ ...load, ...target }))
  } finally {
    await host.drain()
  }
}

async function phase(task: CallerTask): Promise<Phase> {
  const worker = new Worker(new URL('./overload-callers.ts', import.meta.url), { workerData: task })
  const before = process.cpuUsage()
  let peakBytes = 0
  const watch = setInterval(() => (peakBytes = Math.max(peakBytes, process.memoryUsage.rss())), 100)
  const done = await new Promise<CallerReport>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  clearInterval(watch)
  const used = process.cpuUsage(before)
  return { ...done, ownCpuUs: used.user + used.system - done.cpuUs, peakMiB: peakBytes / mib }
}
