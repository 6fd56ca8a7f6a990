import { predictionV1 } from '@spillway/wire'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fraudHost, fraudPipeline } from './fraud.ts'
import { withBareServer } from './overload-floor.ts'
import { figures, writeResult } from './rounds.ts'
import type { Call, CallersReport, CallersTask, Load } from './serving-calls.ts'
import { Child } from './serving-child.ts'

interface CallKind {
  readonly protocol: 'grpc' | 'rest'
  readonly events: number
}

const pipelineName = 'bench-overload'
const event = '{"transaction_id":1,"customer_id":1,"terminal_id":1,"amount":12.5,"tx_datetime":"2018-05-20T12:00:00Z"}'

const deadlineMs = 500
const callers = 64
const maxInFlight = 128
const mib = 2 ** 20
/** What the second half of the overload may take beyond the first: memory that grows with time grows by more. */
const steadyMemory = 1.15

const kinds: readonly CallKind[] = [
  { protocol: 'grpc', events: 1 },
  { protocol: 'grpc', events: 64 },
  { protocol: 'rest', events: 1 },
]

interface Phase {
  readonly served: number
  readonly refused: number
  /** Out of time, or failed. */
  readonly late: number
  /** Of the served; where calls have a timetable, from the time that it says. */
  readonly p99Ms: number
  /** Of this process. */
  readonly cpuUs: number
  /** Resident, in the first and the second half. */
  readonly peakMiB: readonly [number, number]
  readonly longestStallMs: number
}

interface Cost {
  readonly kind: CallKind
  /** CPU a call, served, refused by a full gateway, and refused by a server that does nothing else. */
  readonly servedUs: number
  readonly refusedUs: number
  readonly floorUs: number
}

/** Predict at twice what the process can serve: are the admitted answered in time, does memory stay, and what does a refusal cost? */
export async function benchOverload(seconds: number): Promise<void> {
  const { saturated, overloaded } = await withGateway(maxInFlight, async (run) => {
    await run(kinds[0]!, { kind: 'closed', callers, seconds: 2 })
    const closed = await run(kinds[0]!, { kind: 'closed', callers, seconds: Math.min(seconds, 20) })
    const perSecond = (2 * closed.served) / Math.min(seconds, 20)
    return { saturated: closed, overloaded: { perSecond, ...(await run(kinds[0]!, { kind: 'open', perSecond, seconds })) } }
  })
  const costs = await costsOfRefusal(Math.min(seconds, 10))
  const [firstMiB, secondMiB] = overloaded.peakMiB
  const steady = secondMiB <= steadyMemory * firstMiB
  const dear = costs.filter(({ refusedUs, servedUs }) => refusedUs > 0.05 * servedUs)
  const total = overloaded.served + overloaded.refused + overloaded.late
  writeResult({
    benchmark: 'overload',
    unit: 'calls/s',
    setup: `one event a call over one gRPC connection, callers in a process of their own; saturation: ${callers} callers that wait for their answers; overload: ${Math.round(overloaded.perSecond)} calls a second whatever becomes of them, each with ${deadlineMs} ms, for ${seconds} s; at most ${maxInFlight} in flight. Costs: CPU of the serving process a call, ${callers} callers, gateways with room for all and for none; the floor is a bare node:http2 or node:http server that refuses everything.`,
    figures: [
      figures('saturation', [saturated.served / Math.min(seconds, 20)]),
      figures('overload, served', [overloaded.served / seconds]),
      figures('overload, refused', [overloaded.refused / seconds]),
      figures('overload, late', [overloaded.late / seconds]),
    ],
    target: `p99 of the admitted ≤ ${deadlineMs} ms, memory bounded, a refusal ≤ 5 % of a served call's CPU`,
    reached: `p99 ${overloaded.p99Ms.toFixed(0)} ms, ${((100 * overloaded.late) / total).toFixed(2)} % late; ${firstMiB.toFixed(0)} MiB at most in the first half, ${secondMiB.toFixed(0)} in the second; a refusal ${costs.map(said).join(', ')}`,
    met: overloaded.p99Ms <= deadlineMs && overloaded.late <= total / 100 && steady && dear.length === 0,
    notes: [
      `longest stall of the event loop ${overloaded.longestStallMs.toFixed(0)} ms`,
      ...costs.map((cost) => `${named(cost.kind)}: served ${us(cost.servedUs)}, refused ${us(cost.refusedUs)}, floor ${us(cost.floorUs)}`),
    ],
  })
}

async function costsOfRefusal(seconds: number): Promise<readonly Cost[]> {
  const measured = async (run: (kind: CallKind, load: Load) => Promise<Phase>, kind: CallKind): Promise<Phase> => {
    await run(kind, { kind: 'closed', callers, seconds: 2 })
    return run(kind, { kind: 'closed', callers, seconds })
  }
  const perCall = ({ cpuUs, served, refused, late }: Phase): number => cpuUs / (served + refused + late)
  const each = async (run: (kind: CallKind) => Promise<Phase>): Promise<readonly number[]> => {
    const found: number[] = []
    for (const kind of kinds) found.push(perCall(await run(kind)))
    return found
  }
  const served = await withGateway(maxInFlight, (run) => each((kind) => measured(run, kind)))
  const refused = await withGateway(0, (run) => each((kind) => measured(run, kind)))
  const floor = await each((kind) =>
    withBareServer(kind.protocol, (port) => measured((_kind, load) => phase({ call: callOf(kind), port, load, deadlineMs }), kind)),
  )
  return kinds.map((kind, i) => ({ kind, servedUs: served[i]!, refusedUs: refused[i]!, floorUs: floor[i]! }))
}

function said({ kind, servedUs, refusedUs, floorUs }: Cost): string {
  const share = (part: number): string => `${((100 * part) / servedUs).toFixed(1)} %`
  return `${share(refusedUs)} (${named(kind)}, at least ${share(floorUs)})`
}

function named({ protocol, events }: CallKind): string {
  return `${protocol === 'grpc' ? 'gRPC' : 'REST'}, ${events} ${events === 1 ? 'event' : 'events'}`
}

function us(value: number): string {
  return `${value.toFixed(0)} µs`
}

/** A call of so many events. */
function callOf({ protocol, events }: CallKind): Call {
  if (protocol === 'grpc') {
    const { path } = predictionV1.PredictionService.predict
    const request = { pipeline: pipelineName, events: new Array<Buffer>(events).fill(Buffer.from(event)) }
    return { protocol: 'grpc', path, headers: {}, body: Buffer.from(predictionV1.PredictRequest.encode(request).finish()) }
  }
  const body = events === 1 ? `{"event":${event}}` : `{"events":[${new Array<string>(events).fill(event).join(',')}]}`
  const headers = { 'content-type': 'application/json', 'x-spillway-timeout-ms': String(deadlineMs) }
  return { protocol: 'http', path: `/v1/pipelines/${pipelineName}:predict`, headers, body: Buffer.from(body) }
}

type Run = (kind: CallKind, load: Load) => Promise<Phase>

/** All services in this process, with room for so many calls. */
async function withGateway<T>(room: number, play: (run: Run) => Promise<T>): Promise<T> {
  const loaded = await fraudPipeline(pipelineName, { transactions: 'transactions', labels: 'labels' })
  const pipeline = { ...loaded, calls: { ...loaded.calls, maxInFlight: room } }
  const host = fraudHost(pipeline, { kind: 'embedded', path: join(mkdtempSync(join(tmpdir(), 'spillway-overload-')), 'bus.db') })
  await host.start(AbortSignal.timeout(60_000))
  const { grpcPort, httpPort } = host.gateway
  try {
    return await play((kind, load) => phase({ call: callOf(kind), port: kind.protocol === 'grpc' ? grpcPort : httpPort, load, deadlineMs }))
  } finally {
    await host.drain()
  }
}

/** Runs callers in a process of their own. */
async function phase(task: CallersTask): Promise<Phase> {
  const callers = new Child('serving-callers.ts')
  const startMs = performance.now()
  const halfMs = (task.load.seconds * 1000) / 2
  const peakBytes: [number, number] = [0, 0]
  const stalls = monitorEventLoopDelay({ resolution: 10 })
  stalls.enable()
  const before = process.cpuUsage()
  const watch = setInterval(() => {
    const half = performance.now() - startMs < halfMs ? 0 : 1
    peakBytes[half] = Math.max(peakBytes[half], process.memoryUsage.rss())
  }, 100)
  const report = await callers.ask<CallersReport>('run', task)
  clearInterval(watch)
  stalls.disable()
  const used = process.cpuUsage(before)
  await callers.stop()
  const of = (...outcomes: readonly string[]): number => outcomes.reduce((sum, outcome) => sum + (report.outcomes[outcome] ?? 0), 0)
  const all = Object.values(report.outcomes).reduce((sum, count) => sum + count, 0)
  const [served, refused] = [of('0', '200'), of('8', '429')]
  const peakMiB = [peakBytes[0] / mib, peakBytes[1] / mib] as const
  const counts = { served, refused, late: all - served - refused, p99Ms: report.p99Ms }
  return { ...counts, cpuUs: used.user + used.system, peakMiB, longestStallMs: stalls.max / 1e6 }
}
