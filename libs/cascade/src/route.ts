import { roundScore } from '@spillway/core'
import type { AcceptancePolicy } from './schema.ts'

/** Why a row's answer is what it is, by the number that frames carry. Numbers are never given another meaning. */
export const reasons = ['escalated', 'accepted-below', 'accepted-above', 'final-tier', 'degraded'] as const
export type Reason = (typeof reasons)[number]

export const ESCALATED = 0
export const ACCEPTED_BELOW = 1
export const ACCEPTED_ABOVE = 2
export const FINAL_TIER = 3
export const DEGRADED = 4

/** Scores as every decision sees them: rounded to 6 decimals. @throws nothing; NaN stays NaN. */
export function roundScores(scores: ArrayLike<number>): Float64Array {
  const rounded = new Float64Array(scores.length)
  for (let i = 0; i < rounded.length; i++) rounded[i] = roundScore(scores[i]!)
  return rounded
}

/**
 * A reason a row. Without a policy the tier is the last, and answers. A score that is not a finite number is never accepted by a threshold.
 * @param scores rounded, one a row
 */
export function route(scores: Float64Array, policy: AcceptancePolicy | undefined): Uint8Array {
  const decisions = new Uint8Array(scores.length)
  if (policy === undefined) return decisions.fill(FINAL_TIER)
  const below = policy.below ?? -Infinity
  const above = policy.above ?? Infinity
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!
    if (!Number.isFinite(score)) continue
    if (score < below) decisions[i] = ACCEPTED_BELOW
    else if (score > above) decisions[i] = ACCEPTED_ABOVE
  }
  return decisions
}
