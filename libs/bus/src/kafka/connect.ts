import { MeshError } from '@spillway/core'
import { backoffMs, pause } from '../backoff.ts'
import { isBrokerAway, kafkaError } from './errors.ts'
import type { Cluster } from './kafkajs-cluster.ts'

/** Connects and makes a first request, again and again while the broker is away, until the signal fires. @throws MeshError UNAVAILABLE then, any other failure at once. */
export async function connectPatiently<T>(
  cluster: Cluster,
  signal: AbortSignal,
  request: () => Promise<T>,
  onAway: (error: unknown) => void,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      await cluster.connect()
      return await request()
    } catch (error) {
      const isAway = error instanceof MeshError ? error.code === 'UNAVAILABLE' : isBrokerAway(error)
      if (!isAway) throw kafkaError(error, 'connecting')
      onAway(error)
      await pause(backoffMs(attempt, 2000), signal)
      if (signal.aborted) throw kafkaError(error, 'connecting')
    }
  }
}
