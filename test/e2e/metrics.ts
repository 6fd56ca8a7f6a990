import { until } from './processes.ts'

/** Records that a process has written to a topic since its start, by the text of its metrics. */
export function sentRecords(metrics: string, topic: string): number {
  return Number(new RegExp(`messaging_client_sent_messages_total\\{[^}]*"${topic}"[^}]*\\} (\\d+)`).exec(metrics)?.[1] ?? 0)
}

/** `spillway_consumer_lag_records`: how far a group is behind on each partition, by the labels of both. */
export function lagsIn(metrics: string): ReadonlyMap<string, number> {
  return new Map(
    Array.from(metrics.matchAll(/^spillway_consumer_lag_records\{(.*)\} (\d+)$/gm), ([, labels, lag]) => [labels!, Number(lag)]),
  )
}

export interface RestOptions {
  readonly timeoutMs?: number
  /** Partitions that are read, all groups together; any where absent. */
  readonly lagCount?: number
  readonly detail?: () => string
}

/** Lags are read once a second, a group at a time: no lag for longer than that, and nothing has come between two groups' readings. */
const restMs = 2500

/** Waits until all that lies on a mesh's topics is processed, by the metrics of its processes. */
export async function untilAtRest(
  metrics: () => Promise<readonly string[]>,
  { timeoutMs = 60_000, lagCount, detail }: RestOptions = {},
): Promise<void> {
  let sinceMs = Infinity
  const still = async (): Promise<true | undefined> => {
    const lags = (await metrics()).flatMap((text) => [...lagsIn(text).values()])
    const isComplete = lagCount === undefined ? lags.length > 0 : lags.length === lagCount
    if (!isComplete || lags.some((lag) => lag > 0)) sinceMs = Infinity
    else if (sinceMs === Infinity) sinceMs = performance.now()
    return performance.now() - sinceMs > restMs ? true : undefined
  }
  await until('the mesh to process what lies on its topics', still, timeoutMs, detail)
}

/** The text of a process's metrics, from its HTTP address. */
export async function metricsOf(base: string): Promise<string> {
  return (await fetch(`${base}/metrics`)).text()
}
