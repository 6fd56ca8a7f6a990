import { describe, expect, test } from 'vitest'
import { describeFault, type Menu, planFaults } from './plan.ts'

const menu: Menu = {
  instances: ['a-1', 'a-2', 'b-1'],
  links: ['a-1 to the broker'],
  servers: ['broker', 'redis'],
  scalable: ['a'],
  sessionTimeoutMs: 10_000,
}

describe('a plan of faults', () => {
  test('is the same for the same seed, and another for another', () => {
    const plan = (seed: number): string[] =>
      planFaults(seed, menu)
        .take(40)
        .map(({ fault }) => describeFault(fault))
        .toArray()
    expect(plan(1)).toEqual(plan(1))
    expect(plan(1)).not.toEqual(plan(2))
  })

  test('has every kind that there is something for, before any comes up more often than it should', () => {
    const kinds = (of: Menu, count: number): string[] =>
      [
        ...new Set(
          planFaults(3, of)
            .take(count)
            .map(({ fault }) => fault.kind),
        ),
      ].sort()
    const all = ['broker', 'burst', 'cut', 'kill', 'pause', 'poison', 'redis', 'repeat', 'scale', 'slow', 'stall']
    expect(kinds(menu, 16)).toEqual(all)
    const alone = { instances: ['up-1'], links: [], servers: [], scalable: [], sessionTimeoutMs: 2000 }
    expect(kinds(alone, 40)).toEqual(['kill', 'pause', 'poison', 'repeat'])
  })

  test('lets every pause outlast the session', () => {
    for (const { fault } of planFaults(5, menu).take(200))
      if (fault.kind === 'pause') expect(fault.forMs).toBeGreaterThan(menu.sessionTimeoutMs)
  })
})
