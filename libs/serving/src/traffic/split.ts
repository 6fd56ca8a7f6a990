import { MeshError } from '@spillway/core'
import type { Traffic } from '../models.ts'

/**
 * Where a key falls in [0, 1), the same in every process and at every time: FNV-1a (32 bits) over the UTF-8 of `salt`, a zero byte and the key, mixed by
 * MurmurHash3's finalizer, since FNV's upper bits know little of the last bytes. The salt is the model's name: a key that is in one model's canary is so in
 * another's only by chance.
 */
export function keyFraction(salt: string, key: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(`${salt}\0${key}`)) hash = Math.imul(hash ^ byte, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}

/** Steps whose multiples, without their whole parts, fill [0, 1) evenly from the first on; two that do not follow each other. */
export const splitStep = 0.6180339887498949
export const shadowStep = 0.41421356237309515

/** Fractions for calls without a key: after any count of calls each share has had its part, to within a call or two (Weyl's sequence). */
export class EvenFractions {
  readonly #step: number
  #last = 0

  constructor(step: number) {
    this.#step = step
  }

  next(): number {
    this.#last += this.#step
    if (this.#last >= 1) this.#last -= 1
    return this.#last
  }
}

/** Upper bounds of the shares in [0, 1), in their order. The weights' sum is above 0. */
export function shareBounds(weights: readonly number[]): readonly number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  let sum = 0
  return weights.map((weight) => (sum += weight) / total)
}

/** Index of the share that the fraction falls into. A share of weight 0 has none. */
export function shareAt(bounds: readonly number[], fraction: number): number {
  const found = bounds.findIndex((bound) => fraction < bound)
  // Rounding may leave the last bound a hair below 1.
  return found < 0 ? bounds.findLastIndex((bound, i) => bound > (bounds[i - 1] ?? 0)) : found
}

/** @throws MeshError INVALID_ARGUMENT naming the weight or fraction, and what was expected */
export function checkTraffic({ split, shadow }: Traffic): void {
  for (const [index, { weight }] of split.entries()) {
    if (!(weight >= 0 && weight < Infinity)) throw invalid(`split[${index}].weight`, `${weight} is no weight: expected 0 or more`)
  }
  if (split.length > 0 && !split.some(({ weight }) => weight > 0)) throw invalid('split[0].weight', 'no version has a weight above 0')
  if (split.reduce((sum, { weight }) => sum + weight, 0) === Infinity)
    throw invalid('split[0].weight', 'the sum of the weights is too large')
  const seen = new Set<string>()
  for (const [index, { to }] of split.entries()) {
    if (seen.has(to)) throw invalid(`split[${index}].to`, `"${to}" is there twice`)
    seen.add(to)
  }
  if (shadow !== undefined && !(shadow.fraction >= 0 && shadow.fraction <= 1))
    throw invalid('shadow.fraction', `${shadow.fraction} is no fraction: expected 0 to 1`)
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `${field}: ${message}`, { field })
}
