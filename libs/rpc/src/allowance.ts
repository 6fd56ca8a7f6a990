/** How much of something may be in use at once. What alone is more than that is taken where nothing else is. */
export class Allowance {
  readonly #max: number
  #used = 0

  constructor(max: number) {
    this.#max = max
  }

  get used(): number {
    return this.#used
  }

  fits(amount: number): boolean {
    return this.#used === 0 || this.#used + amount <= this.#max
  }

  /** @returns whether it fitted */
  take(amount: number): boolean {
    const fits = this.fits(amount)
    if (fits) this.#used += amount
    return fits
  }

  give(amount: number): void {
    this.#used -= amount
  }
}
