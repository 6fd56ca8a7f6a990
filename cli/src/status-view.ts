import type { MeshStatus } from '@spillway/telemetry'
import { bytesAt } from '@spillway/core'
import type { Host } from './host.ts'
import type { ProcessLog } from './process-log.ts'

const refreshMs = 1000
const plainRefreshMs = 5000

/**
 * Shows what the mesh does until the signal fires: a live block on a terminal, a line every few seconds elsewhere; each alert as a line of its own.
 * @param sample an event for the commands that it suggests
 * @param log whose warnings are shown among the lines
 */
export async function showStatus(host: Host, sample: string, log: ProcessLog, stopping: AbortSignal): Promise<void> {
  const screen = new Screen(process.stdout.isTTY)
  log.show = (text) => screen.line(text)
  screen.line(welcome(host, sample))
  const meter = new Meter()
  let shownMs = 0
  const timer = setInterval(() => {
    const nowMs = performance.now()
    if (!screen.live && nowMs - shownMs < plainRefreshMs) return
    shownMs = nowMs
    screen.status(describe(host.metrics.status(), meter, nowMs, screen.live))
  }, refreshMs)
  try {
    await followAlerts(host, stopping, (line) => screen.line(line))
  } finally {
    clearInterval(timer)
    screen.line('Draining: finishing what is in flight …')
  }
}

/** What a newcomer can do next, ready to paste. */
function welcome(host: Host, sample: string): string {
  const { httpPort } = host.gateway
  const { name, topics, inputTopics } = host.process.gatewayPipeline()
  const base = `http://127.0.0.1:${httpPort}`
  const input = inputTopics[0]!
  const alerts = host.alertsTopic
  return [
    `Pipeline "${name}" is running: ${base} (topics: ${topics.join(', ')}). Try, in another terminal:`,
    `  a prediction      curl -s ${base}/v1/pipelines/${name}:predict -H 'content-type: application/json' -d '{"event":${sample}}'`,
    `                    npx spillway predict --pipeline ${name} --gateway ${base} '${sample}'`,
    `  alerts as events  curl -sN '${base}/v1/topics/${alerts}/events?from=latest'`,
    `                    npx spillway subscribe ${alerts} --gateway ${base}`,
    `  your own event    curl -s ${base}/v1/topics/${input}/events -H 'content-type: application/json' -d '${sample}'`,
    `                    npx spillway publish ${input} --gateway ${base} '${sample}'`,
    '',
  ].join('\n')
}

async function followAlerts(host: Host, stopping: AbortSignal, show: (line: string) => void): Promise<void> {
  try {
    for await (const slice of host.bus.subscribe({ topic: host.alertsTopic, from: 'latest', maxSliceRecords: 100, signal: stopping }))
      for (let record = 0; record < slice.records.count; record++)
        show(`ALERT ${Buffer.from(bytesAt(slice.records.values, record)).toString()}`)
  } catch (error) {
    if (!stopping.aborted) throw error
  }
}

/** Rates between two readings of a total. */
class Meter {
  private readonly last = new Map<string, { total: number; atMs: number }>()

  perSecond(name: string, total: number, nowMs: number): number {
    const before = this.last.get(name)
    this.last.set(name, { total, atMs: nowMs })
    if (before === undefined || nowMs === before.atMs) return 0
    return ((total - before.total) / (nowMs - before.atMs)) * 1000
  }
}

function sum(counts: readonly { readonly rows: number }[]): number {
  return counts.reduce((total, { rows }) => total + rows, 0)
}

function describe(status: MeshStatus, meter: Meter, nowMs: number, live: boolean): string {
  const eventsIn = sum(status.eventsIn.filter(({ topic }) => !topic.includes('.tier-')))
  const firstTier = status.tiers[0]?.tier
  const decided = sum(status.tiers.filter(({ tier }) => tier === firstTier))
  const escalated = sum(status.tiers.filter(({ tier, reason }) => tier === firstTier && reason === 'escalated'))
  const out = (sink: string): number => sum(status.outputsOut.filter((output) => output.sink === sink))
  const share = decided === 0 ? 0 : (escalated / decided) * 100
  const queued = status.queues.reduce((total, { depth }) => total + depth, 0)
  const parts = [
    `events in ${eventsIn} (${Math.round(meter.perSecond('in', eventsIn, nowMs))}/s)`,
    `predictions ${out('predictions')}`,
    `alerts ${out('alerts')}`,
    `dead letters ${sum(status.deadLetters)}`,
    `escalated ${share.toFixed(1)} %`,
    `latency p50 ${status.latency.p50Ms.toFixed(1)} ms p99 ${status.latency.p99Ms.toFixed(1)} ms`,
    `waiting in topics ${status.lagRecords}, in queues ${queued}`,
  ]
  return live ? parts.join('\n') : parts.join(' | ')
}

/** A block that stays at the bottom of a terminal; plain lines where there is none. */
class Screen {
  readonly live: boolean
  private shownLines = 0

  constructor(live: boolean) {
    this.live = live
  }

  status(text: string): void {
    this.clear()
    process.stdout.write(`${text}\n`)
    if (this.live) this.shownLines = text.split('\n').length
  }

  line(text: string): void {
    this.clear()
    process.stdout.write(`${text}\n`)
  }

  private clear(): void {
    if (this.shownLines > 0) process.stdout.write(`\u001b[${this.shownLines}A\u001b[J`)
    this.shownLines = 0
  }
}
