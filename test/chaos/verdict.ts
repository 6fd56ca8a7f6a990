import { isClean, summary } from '../checker/report.ts'
import { byKind, type Latency, mismatched, type Outcome } from './figures.ts'

/** Nothing lost, doubled, out of order or other than recomputed, nothing stuck, no drain that failed. */
export function isKept({ report, stuck, badDrains }: Pick<Outcome, 'report' | 'stuck' | 'badDrains'>): boolean {
  return isClean(report) && stuck.length === 0 && badDrains.length === 0
}

/** Everything that is worth knowing of a run; the last line says how it went. */
export function verdict(outcome: Outcome): string {
  const { report, latency, stuck, crashes, badDrains, drainsMs } = outcome
  const lines = [
    `${outcome.name}: ${report.inputs} events in, ${outcome.poison} of them poison (some among the labels), ${outcome.publishRetries} publishes made again, ${(outcome.durationMs / 1000).toFixed(0)} s`,
    summary(report),
    `latency, publish to prediction seen: before ${words(latency.before)}; during ${words(latency.during)}; after ${words(latency.after)}`,
    ...recoveryTable(outcome),
    `drains: ${drainsMs.length}, the longest ${(Math.max(0, ...drainsMs) / 1000).toFixed(1)} s`,
    ...crashes.map((crash) => `restarted by the supervisor: ${crash}`),
    ...badDrains.map((drain) => `BAD DRAIN: ${drain}`),
    ...stuck.map((what) => `STUCK: ${what}`),
    finalLine(outcome),
  ]
  return lines.join('\n')
}

/** `kafka: 30 faults, 0 lost, 0 duplicated, 0 mismatched: OK (seed 1)` */
export function finalLine(outcome: Pick<Outcome, 'name' | 'seed' | 'faults' | 'report' | 'stuck' | 'badDrains'>): string {
  const { report, name, faults, seed } = outcome
  const disorder = report.outOfOrder.count > 0 ? `, ${report.outOfOrder.count} out of order` : ''
  const counts = `${report.lost.count} lost, ${report.duplicated.count} duplicated, ${mismatched(outcome)} mismatched${disorder}`
  return `${name}: ${faults.length} faults, ${counts}: ${isKept(outcome) ? 'OK' : 'FAILED'} (seed ${seed})`
}

/** In Markdown, which reads well as it is. */
function recoveryTable({ faults }: Outcome): readonly string[] {
  const pair = ({ median, most }: { median: number; most: number }): string =>
    Number.isNaN(median) ? '' : `${median.toFixed(1)} / ${most.toFixed(1)}`
  return [
    '| fault | times | measured | first output, s | every partition, s | every partition, from its end, s |',
    '|---|---|---|---|---|---|',
    ...[...byKind(faults)]
      .sort((a, b) => a.kind.localeCompare(b.kind))
      .map(
        (row) => `| ${row.kind} | ${row.count} | ${row.measured} | ${pair(row.firstS)} | ${pair(row.allS)} | ${pair(row.allFromEndS)} |`,
      ),
  ]
}

function words({ count, p50Ms, p99Ms }: Latency): string {
  return `p50 ${p50Ms.toFixed(0)} ms, p99 ${p99Ms.toFixed(0)} ms (${count})`
}
