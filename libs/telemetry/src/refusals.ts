import { Counter } from 'prom-client'
import type { Telemetry } from './telemetry.ts'

const warningIntervalMs = 10_000

export interface RefusalsOptions<Reason extends string> {
  /** Of the counter, which has a label `reason`. */
  readonly name: string
  readonly help: string
  readonly reasons: readonly Reason[]
}

/** Counts calls that there is no room for, and warns of them now and then; on from what a service of its process counted before. @returns is told of each */
export function countRefusals<Reason extends string>(
  { registry, logger }: Telemetry,
  { name, help, reasons }: RefusalsOptions<Reason>,
): (reason: Reason) => void {
  const counted = registry.getSingleMetric(name) as Counter<'reason'> | undefined
  const counter = counted ?? new Counter({ name, help, labelNames: ['reason'], registers: [registry] })
  // So that each of them is there from the start.
  for (const reason of reasons) counter.inc({ reason }, 0)
  const byReason = new Map(reasons.map((reason) => [reason, counter.labels(reason)]))
  let refused = 0
  let warnedMs = -Infinity
  return (reason) => {
    byReason.get(reason)?.inc()
    refused++
    const nowMs = performance.now()
    if (nowMs - warnedMs < warningIntervalMs) return
    logger.warn({ refused, reason }, 'more calls come in than there is room for: they are refused, and counted')
    warnedMs = nowMs
    refused = 0
  }
}
