import type { BrokerFaults } from '../brokers/mod.ts'
import type { Acknowledged } from '../checker/check.ts'
import type { CheckedRecord } from '../checker/record.ts'
import type { FraudNames } from '../e2e/fraud-run.ts'
import { lagsIn } from '../e2e/metrics.ts'
import type { FaultyProxy } from './faulty-proxy.ts'
import type { Instance } from './instance.ts'
import type { Menu } from './plan.ts'

export type BusName = 'kafka' | 'embedded' | 'nats'
/** The fraud pipeline's links: topics between all services, or calls from one segment. */
export type Links = 'topic' | 'grpc'

export interface NewRecord {
  readonly key: string
  readonly value: string
}

/** The fraud pipeline as processes on real servers, and everything in it that can be broken. */
export interface System {
  readonly names: FraudNames
  readonly partitions: number
  readonly menu: Menu
  /** Those that ought to be there now, added ones included. */
  readonly instances: ReadonlyMap<string, Instance>
  readonly links: ReadonlyMap<string, FaultyProxy>
  readonly servers: ReadonlyMap<'broker' | 'redis', BrokerFaults>
  /** Starts one more instance of a service. */
  add(service: string): Promise<Instance>
  /** Ends one that was added. */
  remove(instance: Instance, signal: 'SIGKILL' | 'SIGTERM'): Promise<void>
  /** Resolves when the records are durable. @throws where that is not known */
  publish(topic: 'transactions' | 'labels', records: readonly NewRecord[]): Promise<readonly Acknowledged[]>
  /** Tells of each prediction as soon as it can be read, until the signal fires. One may be told of twice. */
  watch(onPrediction: (transactionId: number) => void, signal: AbortSignal): Promise<void>
  /** Records that are still to be processed, on all topics together; Infinity where not all of that is known. */
  lag(): Promise<number>
  /** Everything that lies on a topic; after the services have ended. */
  read(topic: string): Promise<readonly CheckedRecord[]>
  /** Ends all that it started, and removes its data. */
  close(): Promise<void>
}

/** The lag of all partitions by the metrics of the instances. */
export async function metricsLag(instances: Iterable<Instance>, partitionsRead: number): Promise<number> {
  const lags = new Map<string, number>()
  for (const instance of instances) {
    const metrics = await instance.metrics()
    if (metrics === undefined) return Infinity
    for (const [labels, lag] of lagsIn(metrics)) lags.set(labels, Math.max(lags.get(labels) ?? 0, lag))
  }
  if (lags.size < partitionsRead) return Infinity
  return [...lags.values()].reduce((sum, lag) => sum + lag, 0)
}

/** A prediction's transaction, without parsing the whole. */
export function transactionIdOf(value: string): number {
  return Number(/"transaction_id":(\d+)/.exec(value)?.[1] ?? NaN)
}
