import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type Bus, recordsOf } from '@spillway/bus'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import type { ServiceProcess } from './mesh-services.ts'
import { TopicWatch } from './watch.ts'

export const partitions = 4
const perSecond = 200
/** One in so many goes to the heavy model; each of those carries `noteBytes`, so that what waits is more than any process may hold. */
const escalatedEach = 4
const noteBytes = 120_000
const note = 'n'.repeat(noteBytes)
/** What a process may grow by while what waits grows without end. */
export const growthLimitMiB = 96
const mib = 2 ** 20

interface Answer {
  readonly n: number
  readonly tier: string
  readonly degraded: boolean
  readonly tookMs: number
}

/** Two tiers under a steady load, the second at an address of its own. */
export class PressureRun {
  readonly name: string
  readonly pipeline: string
  /** The file with which `spillway serve model` serves the second tier alone. */
  readonly heavyPipeline: string
  /** Since `play` began last: what one round trip to the broker took, of many that an event takes through the mesh. */
  slowestPublishMs = 0
  private readonly bus: Bus
  private readonly folder: string
  private readonly sentMs: number[] = []
  private answers: TopicWatch | undefined
  private readonly largestMiB = new Map<string, number>()

  constructor(bus: Bus, folder: string, name: string) {
    this.bus = bus
    this.folder = folder
    this.name = name
    this.pipeline = join(folder, `${name}.yaml`)
    this.heavyPipeline = join(folder, `${name}-heavy.yaml`)
  }

  get sent(): number {
    return this.sentMs.length
  }

  /** How many of the events so far the second tier is to answer. */
  get escalated(): number {
    return Math.ceil(this.sent / escalatedEach)
  }

  async write(heavyPort: number): Promise<void> {
    await writeModel(join(this.folder, 'models'), 'cheap', 1, logisticModel([1], 0))
    await writeModel(join(this.folder, 'models'), 'heavy', 1, logisticModel([0.5], 0.3))
    const own = { inputs: `inputs: { in: { topic: ${this.name}.in, id: n, key: user, fields: { n: integer, user: string, x: number } } }` }
    const text = (name: string, tiers: string): string =>
      [`pipeline: ${name}`, `partitions: ${partitions}`, own.inputs, 'features: { vector: [x] }', `cascade: { tiers: [${tiers}] }`].join(
        '\n',
      )
    const tiers = `{ model: cheap, accept: { below: 0.1, above: 0.9 } }, { model: heavy, address: "127.0.0.1:${heavyPort}" }`
    const outputs = `outputs: { predictions: { topic: ${this.name}.out, include: [n] }, alerts: { topic: ${this.name}.alerts, atLeast: 1 } }`
    writeFileSync(this.pipeline, `${text(this.name, tiers)}\n${outputs}\n`)
    writeFileSync(this.heavyPipeline, `${text(`${this.name}-heavy`, '{ model: heavy }')}\n`)
    await this.bus.topics.ensure(['in', 'out'].map((topic) => ({ name: `${this.name}.${topic}`, partitions })))
  }

  watch(): void {
    this.answers = new TopicWatch(this.bus, `${this.name}.out`)
  }

  async end(): Promise<void> {
    await this.answers?.end()
  }

  /** Publishes for so long, and looks at what each process holds. @returns the events' numbers, from the first, inclusive, to the last, exclusive */
  async play(seconds: number, processes: readonly ServiceProcess[]): Promise<readonly [number, number]> {
    const first = this.sent
    const startMs = performance.now()
    this.largestMiB.clear()
    this.slowestPublishMs = 0
    while (performance.now() - startMs < seconds * 1000) {
      const due = first + Math.ceil(((performance.now() - startMs) / 1000) * perSecond)
      const count = Math.min(due - this.sent, perSecond)
      const events = Array.from({ length: count }, (_, i) => eventOf(this.sent + i))
      this.sentMs.push(...events.map(() => performance.now()))
      const beganMs = performance.now()
      if (count > 0) await this.bus.publish(`${this.name}.in`, recordsOf(events))
      this.slowestPublishMs = Math.max(this.slowestPublishMs, performance.now() - beganMs)
      for (const [index, { child, name }] of processes.entries()) {
        const label = `${name} ${index}`
        this.largestMiB.set(label, Math.max(this.largestMiB.get(label) ?? 0, residentMiB(child.pid!)))
      }
      await wait(50)
    }
    return [first, this.sent]
  }

  /** The most that each process held since `play` began last. */
  held(): ReadonlyMap<string, number> {
    return new Map(this.largestMiB)
  }

  /** All answers so far. @throws Error where an event is answered twice */
  answered(): ReadonlyMap<number, Answer> {
    const found = new Map<number, Answer>()
    for (const { value, arrivedMs } of this.answers?.records ?? []) {
      const { n, tier, degraded } = JSON.parse(value) as Answer
      if (found.has(n)) throw new Error(`two answers to event ${n}`)
      found.set(n, { n, tier, degraded, tookMs: arrivedMs - this.sentMs[n]! })
    }
    return found
  }

  answeredBy(tier: string): number {
    return [...this.answered().values()].filter((answer) => answer.tier === tier).length
  }

  get answerCount(): number {
    return this.answers?.count ?? 0
  }

  /** 99th percentile of the time from publishing to the answer's arrival, of those that the first tier is to answer; Infinity where one is not answered. */
  p99([from, to]: readonly [number, number]): number {
    const answers = this.answered()
    const tookMs: number[] = []
    for (let n = from; n < to; n++) if (!isEscalated(n)) tookMs.push(answers.get(n)?.tookMs ?? Infinity)
    return tookMs.sort((a, b) => a - b)[Math.floor(tookMs.length * 0.99)]!
  }

  /** Answers by another tier than the one that should give them, or degraded ones. */
  wrong(): readonly Answer[] {
    return [...this.answered().values()].filter(({ n, tier, degraded }) => degraded || tier !== (isEscalated(n) ? 'heavy' : 'cheap'))
  }
}

/** What escalated events are together, MiB. */
export function escalatedMiB([from, to]: readonly [number, number]): number {
  return ((to - from) / escalatedEach) * (noteBytes / mib)
}

/** `spillway_consumer_lag_records` of a topic, all partitions, as a service says it. */
export async function lagOf(service: ServiceProcess, topic: string): Promise<number> {
  const series = `spillway_consumer_lag_records{messaging_destination_name="${topic}"`
  const lines = (await service.metrics()).split('\n').filter((line) => line.startsWith(series))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

/** `spillway_queue_depth` and `spillway_queue_age_seconds` of a segment. */
export async function queueOf(service: ServiceProcess, segment: string): Promise<{ readonly depth: number; readonly ageS: number }> {
  const metrics = await service.metrics()
  const value = (name: string): number => Number(new RegExp(`^${name}\\{queue="segment ${segment}"\\} (\\S+)$`, 'm').exec(metrics)?.[1])
  return { depth: value('spillway_queue_depth'), ageS: value('spillway_queue_age_seconds') }
}

const isEscalated = (n: number): boolean => n % escalatedEach === 0

/** The first tier is sure of -8, and of 0 it is not. */
function eventOf(n: number): { readonly key: string; readonly value: string } {
  const user = `user-${n % 50}`
  return { key: user, value: JSON.stringify(isEscalated(n) ? { n, user, x: 0, note } : { n, user, x: -8 }) }
}

/** Of a process that is there: what the kernel counts as its own in memory. */
function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
}
