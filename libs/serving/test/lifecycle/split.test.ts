import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toEvict } from '../../src/lifecycle/memory-budget.ts'
import { checkTraffic, EvenFractions, keyFraction, shareAt, shareBounds, splitStep } from '../../src/traffic/split.ts'

const weights = fc
  .array(fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 1000, noNaN: true })), { minLength: 1, maxLength: 6 })
  .filter((all) => all.some((weight) => weight > 0))

describe('a split', () => {
  test('has a share for every fraction, and none for a weight of 0', () => {
    fc.assert(
      fc.property(weights, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (all, fraction) => {
        expect(all[shareAt(shareBounds(all), fraction)]).toBeGreaterThan(0)
      }),
    )
  })

  test('gives calls without a key to each version as its weight says, to within a few calls at any time', () => {
    fc.assert(
      fc.property(weights, (all) => {
        const bounds = shareBounds(all)
        const total = all.reduce((sum, weight) => sum + weight, 0)
        const fractions = new EvenFractions(splitStep)
        const counts = new Array<number>(all.length).fill(0)
        for (let calls = 1; calls <= 500; calls++) {
          counts[shareAt(bounds, fractions.next())]!++
          for (const [i, weight] of all.entries()) expect(Math.abs(counts[i]! - (calls * weight) / total)).toBeLessThan(4)
        }
      }),
      { numRuns: 30 },
    )
  })

  test('gives keys to versions as its weights say, each always to the same', () => {
    const bounds = shareBounds([90, 10])
    const canary = Array.from({ length: 20_000 }, (_, i) => `card-${i}`).filter((key) => shareAt(bounds, keyFraction('fraud', key)) === 1)
    expect(canary.length).toBeGreaterThan(1_850)
    expect(canary.length).toBeLessThan(2_150)
    expect(canary.every((key) => shareAt(bounds, keyFraction('fraud', key)) === 1)).toBe(true)
    // Who is in the canary stays in it while it grows.
    const wider = shareBounds([70, 30])
    expect(canary.every((key) => shareAt(wider, keyFraction('fraud', key)) === 1)).toBe(true)
    // Another model's canary has others.
    const both = canary.filter((key) => shareAt(bounds, keyFraction('other', key)) === 1).length
    expect(both).toBeLessThan(canary.length / 4)
  })

  test('puts a key where it was put before, in any process', () => {
    // Fixed by the algorithm: a change would move keys between versions at an upgrade.
    expect(['a', 'card-1', 'kärtchen', ''].map((key) => Math.floor(keyFraction('m', key) * 2 ** 32))).toMatchInlineSnapshot(`
      [
        3313500768,
        541025166,
        318415697,
        1159080512,
      ]
    `)
  })

  test.each([
    [{ split: [{ to: '1', weight: -1 }] }, 'split[0].weight'],
    [{ split: [{ to: '1', weight: Number.NaN }] }, 'split[0].weight'],
    [{ split: [{ to: '1', weight: Infinity }] }, 'split[0].weight'],
    [{ split: [{ to: '1', weight: 0 }] }, 'split[0].weight'],
    [
      {
        split: [
          { to: '1', weight: 1e308 },
          { to: '2', weight: 1e308 },
        ],
      },
      'split[0].weight',
    ],
    [
      {
        split: [
          { to: '1', weight: 1 },
          { to: '1', weight: 2 },
        ],
      },
      'split[1].to',
    ],
    [{ split: [], shadow: { to: '1', fraction: 1.5 } }, 'shadow.fraction'],
  ])('that cannot be is refused, naming what is wrong: %j', (traffic, field) => {
    expect(() => checkTraffic(traffic)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', field }) as Error)
  })
})

describe('models that give way to the memory budget', () => {
  const resident = fc.record({
    bytes: fc.integer({ min: 1, max: 100 }),
    lastUsedMs: fc.integer({ min: 0, max: 1000 }),
    busy: fc.boolean(),
  })
  const residents = fc.array(resident, { maxLength: 8 }).map((all) => all.map((one, i) => ({ ...one, model: `m${i}` })))

  test('are enough, never in use, and the longest unused', () => {
    fc.assert(
      fc.property(residents, fc.integer({ min: 0, max: 400 }), fc.integer({ min: 1, max: 400 }), (all, needed, budget) => {
        const used = all.reduce((sum, { bytes }) => sum + bytes, 0)
        const idle = all.filter(({ busy }) => !busy)
        const evicted = toEvict(all, used, needed, budget)
        const idleBytes = idle.reduce((sum, { bytes }) => sum + bytes, 0)
        expect(evicted === undefined).toBe(used - idleBytes + needed > budget)
        if (evicted === undefined) return
        const gone = all.filter(({ model }) => evicted.includes(model))
        expect(gone.some(({ busy }) => busy)).toBe(false)
        expect(used - gone.reduce((sum, { bytes }) => sum + bytes, 0) + needed).toBeLessThanOrEqual(budget)
        const newest = Math.max(...gone.map(({ lastUsedMs }) => lastUsedMs))
        for (const { model, lastUsedMs } of idle) if (!evicted.includes(model)) expect(lastUsedMs).toBeGreaterThanOrEqual(newest)
        // None more than is needed.
        if (gone.length > 0) {
          const last = gone.find(({ model }) => model === evicted.at(-1))!
          expect(used - gone.reduce((sum, { bytes }) => sum + bytes, 0) + last.bytes + needed).toBeGreaterThan(budget)
        }
      }),
    )
  })
})
