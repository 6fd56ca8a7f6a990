import { setTimeout as wait } from 'node:timers/promises'
import { check } from '../checker/check.ts'
import { pipelineFacts } from '../e2e/fraud-run.ts'
import { latency, type Outcome, type Suffered } from './figures.ts'
import { inject } from './inject.ts'
import { describeFault, type PlannedFault } from './plan.ts'
import { SeededRandom } from './random.ts'
import { Sightings } from './recovery.ts'
import type { System } from './system.ts'
import { Traffic } from './traffic.ts'

export interface RunOptions {
  readonly name: string
  readonly seed: number
  /** Ends with it, or at the first fault after `minutes`. */
  readonly plan: Iterable<PlannedFault>
  readonly minutes: number
  /** Transactions a second. */
  readonly ratePerS: number
  /** How long latency is taken without faults, before and after. */
  readonly calmMs: number
  /** Predictions whose scores are recomputed, at most. */
  readonly sample: number
  readonly say: (line: string) => void
}

/** Outputs that have not resumed by then are stuck. */
const longestRecoveryMs = 120_000
const longestDrainMs = 180_000
/** Lags are read once a second: nothing left to do for longer than that is the end. */
const restMs = 2500

/**
 * Traffic, faults by the seed's plan, and what the checker says when all has come to rest. Leaves the system's processes ended.
 * @throws where the run cannot go on; nobody publishes or reads any more then, and the system is to be closed
 */
export async function runChaos(system: System, options: RunOptions): Promise<Outcome> {
  const startedMs = performance.now()
  const traffic = new Traffic(system, options.ratePerS)
  const sightings = new Sightings(traffic, system.partitions)
  const watching = new AbortController()
  const watch = system.watch((id) => sightings.saw(id), watching.signal)
  const stuck: string[] = []
  let phases: Phases
  try {
    phases = await play(system, traffic, sightings, { ...options, startedMs, stuck })
  } finally {
    traffic.abandon()
    watching.abort()
    await watch
  }
  const instances = [...system.instances.values()]
  const latencies = (fromMs: number, untilMs: number): number[] =>
    Array.from(sightings.seenMs, ([id, seenMs]) => ({ seenMs, publishedMs: traffic.publishedMs.get(id) ?? NaN }))
      .filter(({ publishedMs }) => publishedMs >= fromMs && publishedMs < untilMs)
      .map(({ seenMs, publishedMs }) => seenMs - publishedMs)
  return {
    name: options.name,
    seed: options.seed,
    report: await checked(system, traffic, options.sample),
    faults: phases.faults,
    latency: {
      before: latency(latencies(phases.calmFromMs, phases.faultsFromMs)),
      during: latency(latencies(phases.faultsFromMs, phases.faultsUntilMs)),
      after: latency(latencies(phases.faultsUntilMs, Infinity)),
    },
    poison: traffic.poison.size,
    publishRetries: traffic.retries,
    durationMs: performance.now() - startedMs,
    stuck,
    crashes: instances.flatMap(({ crashes }) => crashes),
    badDrains: instances.flatMap(({ badDrains }) => badDrains),
    drainsMs: instances.flatMap(({ drainsMs }) => drainsMs),
  }
}

/** ms as `performance.now` has it. */
interface Phases {
  readonly calmFromMs: number
  readonly faultsFromMs: number
  readonly faultsUntilMs: number
  readonly faults: readonly Suffered[]
}

/** From the first event until nothing is left to do and the processes have ended. */
async function play(
  system: System,
  traffic: Traffic,
  sightings: Sightings,
  options: RunOptions & { readonly startedMs: number; readonly stuck: string[] },
): Promise<Phases> {
  const { say, calmMs, stuck } = options
  const beginning = sightings.fromNow()
  traffic.start()
  await within(beginning.done, longestRecoveryMs, 'the first predictions of every partition', stuck)
  const calmFromMs = performance.now()
  await wait(calmMs)
  const faultsFromMs = performance.now()
  const faults = stuck.length > 0 ? [] : await sufferFaults(system, traffic, sightings, options)
  const faultsUntilMs = performance.now()
  await wait(calmMs)
  await within(traffic.stop(), longestDrainMs, 'the last publishes to be acknowledged', stuck)
  say(`stopped publishing: waiting for ${await system.lag()} records to be processed`)
  await rest(system, stuck)
  await Promise.all(Array.from(system.instances.values(), (instance) => instance.end('SIGTERM')))
  return { calmFromMs, faultsFromMs, faultsUntilMs, faults }
}

async function sufferFaults(
  system: System,
  traffic: Traffic,
  sightings: Sightings,
  { seed, plan, minutes, say, startedMs, stuck }: RunOptions & { readonly startedMs: number; readonly stuck: string[] },
): Promise<readonly Suffered[]> {
  const random = new SeededRandom(seed + 1)
  const endMs = startedMs + minutes * 60_000
  const suffered: (Suffered & { overlapped: boolean })[] = []
  const open: Promise<void>[] = []
  for (const { fault, gapMs, settles } of plan) {
    if (performance.now() > endMs || stuck.length > 0) break
    await wait(gapMs)
    for (const before of suffered) before.overlapped ||= before.recovery.allMs === undefined || before.afterwards.allMs === undefined
    const { recovery, done } = sightings.fromNow()
    const atMs = recovery.sinceMs - startedMs
    const number = suffered.length + 1
    say(`fault ${number} at ${(atMs / 1000).toFixed(1)} s: ${describeFault(fault)}`)
    await inject(fault, system, traffic, random)
    const { recovery: afterwards, done: overcome } = sightings.fromNow()
    suffered.push({ fault, atMs, recovery, afterwards, overlapped: false })
    const recovered = async (): Promise<void> => {
      await within(Promise.all([done, overcome]), longestRecoveryMs, `outputs after fault ${number}, ${describeFault(fault)}`, stuck)
      const tookS = ((recovery.allMs ?? NaN) - recovery.sinceMs) / 1000
      const fromEndS = ((afterwards.allMs ?? NaN) - afterwards.sinceMs) / 1000
      say(`  fault ${number}: outputs of every partition after ${tookS.toFixed(1)} s, and ${fromEndS.toFixed(1)} s after its end`)
    }
    open.push(recovered())
    if (settles) await Promise.all(open.splice(0))
  }
  await Promise.all(open)
  return suffered
}

/** Until nothing is left to do. */
async function rest(system: System, stuck: string[]): Promise<void> {
  const endMs = performance.now() + longestDrainMs
  let sinceMs = Infinity
  let lag = Infinity
  while (performance.now() < endMs) {
    lag = await system.lag()
    if (lag > 0) sinceMs = Infinity
    else if (sinceMs === Infinity) sinceMs = performance.now()
    if (performance.now() - sinceMs > restMs) return
    await wait(200)
  }
  stuck.push(`${lag} records are still to be processed ${longestDrainMs / 1000} s after the last was published`)
}

async function within(done: Promise<unknown>, timeoutMs: number, what: string, stuck: string[]): Promise<void> {
  const timer = Promise.withResolvers<void>()
  const timeout = setTimeout(() => {
    stuck.push(`gave up after ${timeoutMs / 1000} s waiting for ${what}`)
    timer.resolve()
  }, timeoutMs)
  // Traffic keeps the process alive meanwhile; after a run that was broken off nothing is to wait for this.
  timeout.unref()
  try {
    await Promise.race([done, timer.promise])
  } finally {
    clearTimeout(timeout)
  }
}

async function checked(system: System, traffic: Traffic, sample: number): Promise<Outcome['report']> {
  const { names } = system
  return check({
    inputs: { [names.transactions]: await system.read(names.transactions), [names.labels]: await system.read(names.labels) },
    predictions: await system.read(names.predictions),
    deadLetters: await system.read(names.deadLetters),
    alerts: await system.read(names.alerts),
    pipeline: { ...pipelineFacts(names), showsFeatures: true },
    sample,
    acknowledged: traffic.acknowledged,
    mayBeDead: (_topic, { value }) => traffic.poison.has(value),
  })
}
