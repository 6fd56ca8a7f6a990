import type { Report } from '../checker/report.ts'
import type { Fault } from './plan.ts'
import type { Recovery } from './recovery.ts'

/** A fault that was carried out; ms as `performance.now` has it. */
export interface Suffered {
  readonly fault: Fault
  /** Since the first event. */
  readonly atMs: number
  /** From its start. */
  readonly recovery: Recovery
  /** From its end: the end of a pause or of an instance that was added is a disturbance too. */
  readonly afterwards: Recovery
  /** Another one came before outputs had resumed. */
  readonly overlapped: boolean
}

export interface Latency {
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface Outcome {
  readonly name: string
  readonly seed: number
  readonly report: Report
  readonly faults: readonly Suffered[]
  readonly latency: { readonly before: Latency; readonly during: Latency; readonly after: Latency }
  readonly poison: number
  readonly publishRetries: number
  readonly durationMs: number
  /** What did not come to an end. */
  readonly stuck: readonly string[]
  readonly crashes: readonly string[]
  readonly badDrains: readonly string[]
  readonly drainsMs: readonly number[]
}

export function latency(valuesMs: readonly number[]): Latency {
  const sorted = Float64Array.from(valuesMs).sort()
  return { count: sorted.length, p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) }
}

/** Nearest rank; NaN where there is nothing. */
function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN
}

/** From its start, and from its end, to the first new output, and to one of every partition; s. Faults that another one overlapped are left out. */
interface KindFigures {
  readonly kind: string
  readonly count: number
  readonly measured: number
  readonly firstS: { readonly median: number; readonly most: number }
  readonly allS: { readonly median: number; readonly most: number }
  readonly allFromEndS: { readonly median: number; readonly most: number }
}

export function byKind(faults: readonly Suffered[]): readonly KindFigures[] {
  return Array.from(
    Map.groupBy(faults, ({ fault }) => kindOf(fault)),
    ([kind, all]) => {
      const measured = all.filter(
        ({ overlapped, recovery, afterwards }) => !overlapped && recovery.allMs !== undefined && afterwards.allMs !== undefined,
      )
      const spread = (valueMs: (suffered: Suffered) => number): { median: number; most: number } => {
        const sorted = Float64Array.from(measured.map((each) => valueMs(each) / 1000)).sort()
        return { median: quantile(sorted, 0.5), most: quantile(sorted, 1) }
      }
      return {
        kind,
        count: all.length,
        measured: measured.length,
        firstS: spread(({ recovery }) => recovery.firstMs! - recovery.sinceMs),
        allS: spread(({ recovery }) => recovery.allMs! - recovery.sinceMs),
        allFromEndS: spread(({ afterwards }) => afterwards.allMs! - afterwards.sinceMs),
      }
    },
  )
}

/** The end of one process is told by how and whose: some have another instance, and a drain hands over. */
function kindOf(fault: Fault): string {
  if (fault.kind !== 'kill') return fault.kind
  const [{ instance, signal }] = fault.victims as [(typeof fault.victims)[0]]
  return `${signal === 'SIGKILL' ? 'kill -9' : 'drain'} ${instance.slice(0, instance.lastIndexOf('-'))}`
}

/** Rows that do not say what they should. */
export function mismatched({ report }: Pick<Outcome, 'report'>): number {
  const { wrongScores, wrongFeatures, wrongContent, wrongAlerts, wrongDeadLetters, unexpected } = report
  return [wrongScores, wrongFeatures, wrongContent, wrongAlerts, wrongDeadLetters, unexpected].reduce((sum, { count }) => sum + count, 0)
}
