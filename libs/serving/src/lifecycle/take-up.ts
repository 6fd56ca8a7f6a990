import type { MeshError } from '@spillway/core'
import type { Seen } from './model-set.ts'
import type { ServedModel } from './served-model.ts'

export interface TakeUp {
  readonly model: ServedModel
  readonly seen: Seen
  /** Whether a version that is refused leaves the model as it was: what it is to be loaded from goes with the request. */
  readonly wholly: boolean
  readonly nextLook: () => number
  readonly isStopped: () => boolean
}

/**
 * Loads what a request asks for, within a turn of the model. Where all of it or none is to be taken, what was served before goes only after what comes was loaded.
 * @returns why a version was refused, and whether the model is as it was before
 */
export async function takeUp({ model, seen, wholly, nextLook, isStopped }: TakeUp): Promise<{ refused?: MeshError; isAsBefore: boolean }> {
  const before = wholly && model.wanted ? model.source : undefined
  const { asleep } = model
  model.wanted = true
  model.asleep = false
  model.problem = undefined
  model.forgive()
  model.see(seen.model, seen.look)
  // A policy that names no version would have all of them go.
  if (before === undefined || model.unmet === undefined) await model.reconcile(true, isStopped, { endsAtRefusal: before !== undefined })
  const { error: refused } = model
  if (refused === undefined) return { isAsBefore: false }
  if (before === undefined) return { refused, isAsBefore: false }
  model.asleep = asleep
  model.see(before, nextLook())
  await model.reconcile(true, isStopped)
  return { refused, isAsBefore: true }
}
