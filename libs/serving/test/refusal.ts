import type { MeshError } from '@spillway/core'
import { expect } from 'vitest'

/** What the promise, or the attempt, was refused with. */
export async function refusal(attempt: Promise<unknown> | (() => unknown)): Promise<MeshError> {
  try {
    await (typeof attempt === 'function' ? attempt() : attempt)
  } catch (error) {
    return error as MeshError
  }
  return expect.unreachable('it should have been refused')
}
