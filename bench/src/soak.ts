// Started by main.ts: `node --max-semi-space-size=16 bench/src/soak.ts MINUTES`.
import { EmbeddedBus } from '@spillway/bus'
import { fullSize, SimulationPlayer } from '@spillway/example-fraud'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fraudHost, fraudPipeline } from './fraud.ts'
import { figures, writeResult } from './rounds.ts'

const mib = 2 ** 20

/** The whole mesh in one process on the embedded bus at a steady rate: is its resident memory bounded and flat? */
async function benchSoak(minutes: number, perSecond: number): Promise<void> {
  const pipeline = await fraudPipeline('soak', { transactions: 'transactions', labels: 'labels' }, { escalations: 'topic' })
  const host = fraudHost(pipeline, { kind: 'embedded', path: join(mkdtempSync(join(tmpdir(), 'spillway-soak-')), 'bus.db') })
  await host.start(AbortSignal.timeout(60_000))
  if (!(host.bus instanceof EmbeddedBus)) throw new Error('expected the embedded bus')
  const player = new SimulationPlayer({ bus: host.bus, settings: fullSize, transactionsPerS: perSecond })
  await player.start(AbortSignal.timeout(60_000))
  const residentMiB: number[] = []
  for (let second = 0; second < minutes * 60; second += 10) {
    await wait(10_000)
    residentMiB.push(process.memoryUsage().rss / mib)
  }
  const status = host.metrics.status()
  await player.drain()
  await host.drain()
  const settled = residentMiB.slice(residentMiB.length >> 1)
  const quarter = settled.length >> 1
  const growth = mean(settled.slice(quarter)) / mean(settled.slice(0, quarter)) - 1
  const peak = Math.max(...residentMiB)
  writeResult({
    benchmark: 'soak',
    unit: 'MiB resident',
    setup: `all services, the embedded bus and the player in one process, ${perSecond} transactions a second and their labels for ${minutes} minutes; read every 10 s; ${player.progress().transactions} transactions, latency p50 ${status.latency.p50Ms.toFixed(1)} ms, p99 ${status.latency.p99Ms.toFixed(1)} ms at the end`,
    figures: [figures('resident', residentMiB), figures('resident, second half', settled)],
    target: '≤ 500 MB resident, flat',
    reached: `peak ${peak.toFixed(0)} MiB; last quarter against the one before ${(growth * 100).toFixed(1)} %`,
    met: (peak * mib) / 1e6 <= 500 && growth < 0.05,
  })
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

await benchSoak(Number(process.argv[2]), 1000)
process.exit(0)
