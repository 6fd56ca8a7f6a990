import type { Servable } from '../lifecycle/servable.ts'
import type { ModelHandle } from '../models.ts'
import type { Shadow } from './shadow.ts'
import { EvenFractions, keyFraction, shadowStep, shareAt, shareBounds, splitStep } from './split.ts'

export interface RouteShare {
  readonly servable: Servable
  readonly weight: number
}

/** Which of the calls are copied, and to where. */
export interface RouteShadow {
  readonly to: Shadow
  /** The version that the shadow calls: its own calls are not copied to it. */
  readonly servable: Servable
  readonly fraction: number
}

/** Which version a call goes to that names none: compiled anew whenever versions or traffic change, so that a call looks nothing up. */
export class Route {
  readonly shares: readonly RouteShare[]
  readonly #model: string
  readonly #bounds: readonly number[]
  readonly #single: Servable | undefined
  readonly #shadow: RouteShadow | undefined
  readonly #splitFractions = new EvenFractions(splitStep)
  readonly #shadowFractions = new EvenFractions(shadowStep)

  /** @param shares one at least, one of them with a weight above 0 */
  constructor(model: string, shares: readonly RouteShare[], shadow: RouteShadow | undefined) {
    this.shares = shares
    this.#model = model
    this.#bounds = shareBounds(shares.map(({ weight }) => weight))
    this.#single = shares.length === 1 ? shares[0]!.servable : undefined
    this.#shadow = shadow
  }

  acquire(key: string | undefined): ModelHandle {
    const servable = this.#single ?? this.shares[this.#share(key)]!.servable
    const shadow = this.#shadow
    return servable.acquire(shadow !== undefined && shadow.servable !== servable && this.#isShadowed(shadow, key) ? shadow.to : undefined)
  }

  #share(key: string | undefined): number {
    return shareAt(this.#bounds, key === undefined ? this.#splitFractions.next() : keyFraction(this.#model, key))
  }

  #isShadowed({ fraction: limit }: RouteShadow, key: string | undefined): boolean {
    // Another salt: whether a key is copied says nothing of the version that it goes to.
    const fraction = key === undefined ? this.#shadowFractions.next() : keyFraction(`${this.#model}\0shadow`, key)
    return fraction < limit
  }
}
