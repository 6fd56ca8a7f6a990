import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ACCEPTED_ABOVE, ACCEPTED_BELOW, cascadeSchema, ESCALATED, FINAL_TIER, roundScores, route } from '../src/mod.ts'

describe('route', () => {
  test('accepts outside the thresholds, escalates between and on them', () => {
    const scores = roundScores([0.009999, 0.01, 0.5, 0.9, 0.900001])
    expect([...route(scores, { below: 0.01, above: 0.9 })]).toEqual([ACCEPTED_BELOW, ESCALATED, ESCALATED, ESCALATED, ACCEPTED_ABOVE])
  })

  test('a one-sided policy accepts on its side only', () => {
    expect([...route(roundScores([0, 0.5, 1]), { below: 0.1 })]).toEqual([ACCEPTED_BELOW, ESCALATED, ESCALATED])
    expect([...route(roundScores([0, 0.5, 1]), { above: 0.9 })]).toEqual([ESCALATED, ESCALATED, ACCEPTED_ABOVE])
  })

  test('the last tier answers everything', () => {
    expect([...route(roundScores([0, Number.NaN, 1]), undefined)]).toEqual([FINAL_TIER, FINAL_TIER, FINAL_TIER])
  })

  test('a score that is not a finite number is escalated, whatever the thresholds', () => {
    const scores = roundScores([Number.NaN, Infinity, -Infinity])
    expect([...route(scores, { below: 0.5, above: 0.5 })]).toEqual([ESCALATED, ESCALATED, ESCALATED])
  })

  test('scores that differ in the last bits of a 32-bit float get one decision', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.001, max: 0.999, noNaN: true }), (score) => {
        const rounded = roundScores([score])[0]!
        const policy = { below: rounded, above: rounded }
        const noisy = roundScores([rounded * (1 + 1e-8), rounded * (1 - 1e-8)])
        expect([...route(noisy, policy)]).toEqual([ESCALATED, ESCALATED])
      }),
    )
  })
})

describe('cascadeSchema', () => {
  const messages = (value: unknown): string =>
    cascadeSchema
      .safeParse(value)
      .error?.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      .join('\n') ?? ''

  test('a tier before the last needs thresholds', () => {
    expect(messages({ tiers: [{ model: 'a' }, { model: 'b' }] })).toMatch(/^tiers\.0: every tier but the last needs "accept/)
  })

  test('the last tier must not have thresholds', () => {
    expect(messages({ tiers: [{ model: 'a', accept: { below: 0.1 } }] })).toMatch(/^tiers\.0\.accept: the last tier answers/)
  })

  test('thresholds that overlap, lie outside [0, 1] or are none at all are refused', () => {
    const tiers = (accept: unknown): unknown => ({ tiers: [{ model: 'a', accept }, { model: 'b' }] })
    expect(messages(tiers({ below: 0.6, above: 0.4 }))).toContain('must not be larger')
    expect(messages(tiers({ below: 1.5 }))).toContain('tiers.0.accept.below')
    expect(messages(tiers({}))).toContain('give "below", "above" or both')
  })
})
