import { MeshError } from '@spillway/core'
import type { Subscription } from './port.ts'

/** What a subscription with an end throws where the bus goes first: it must not pass for one that has come to it. */
export function drainedBefore({ topic }: Subscription): MeshError {
  return new MeshError('CANCELLED', `the bus was drained before the subscription to "${topic}" came to its end`)
}
