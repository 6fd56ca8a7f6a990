import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fraudHost, fraudPipeline } from './fraud.ts'
import { type CallerLoad, type CallerReport, type CallerTarget, type CallerTask, type CallKind } from './overload-callers.ts'
import { withBareServer } from './overload-floor.ts'
import { figures, writeResult } from './rounds.ts'

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

interface Phase extends CallerReport {
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
  const measured = async (run: (kind: CallKind, load: CallerLoad) => Promise<Phase>, kind: CallKind): Promise<Phase> => {
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
    withBareServer(kind.protocol, (port) =>
      measured((_kind, load) => phase({ ...kind, ...load, port, pipeline: 'any', deadlineMs }), kind),
    ),
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

type Run = (kind: CallKind, load: CallerLoad) => Promise<Phase>

/** All services in this process, with room for so many calls. */
async function withGateway<T>(room: number, play: (run: Run) => Promise<T>): Promise<T> {
  const loaded = await fraudPipeline('bench-overload', { transactions: 'transactions', labels: 'labels' })
  const pipeline = { ...loaded, calls: { ...loaded.calls, maxInFlight: room } }
  const host = fraudHost(pipeline, { kind: 'embedded', path: join(mkdtempSync(join(tmpdir(), 'spillway-overload-')), 'bus.db') })
  await host.start(AbortSignal.timeout(60_000))
  const target = (kind: CallKind): CallerTarget => ({
    ...kind,
    port: kind.protocol === 'grpc' ? host.gateway.grpcPort : host.gateway.httpPort,
    pipeline: pipeline.name,
    deadlineMs,
  })
  try {
    return await play((kind, load) => phase({ ...target(kind), ...load }))
  } finally {
    await host.drain()
  }
}

/** Runs callers in a process of their own. */
async function phase(task: CallerTask): Promise<Phase> {
  const child = fork(new URL('./overload-callers.ts', import.meta.url))
  const exited = once(child, 'exit')
  const reported = once(child, 'message')
  const startMs = performance.now()
  const halfMs = (task.seconds * 1000) / 2
  const peakBytes: [number, number] = [0, 0]
  const stalls = monitorEventLoopDelay({ resolution: 10 })
  stalls.enable()
  const before = process.cpuUsage()
  child.send(task)
  const watch = setInterval(() => {
    const half = performance.now() - startMs < halfMs ? 0 : 1
    peakBytes[half] = Math.max(peakBytes[half], process.memoryUsage.rss())
  }, 100)
  const first = await Promise.race([reported, exited.then(([code]) => Promise.reject(new Error(`the callers ended with ${String(code)}`)))])
  clearInterval(watch)
  stalls.disable()
  const used = process.cpuUsage(before)
  await exited
  const peakMiB = [peakBytes[0] / mib, peakBytes[1] / mib] as const
  return { ...(first[0] as CallerReport), cpuUs: used.user + used.system, peakMiB, longestStallMs: stalls.max / 1e6 }
}
