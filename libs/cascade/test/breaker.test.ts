import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type BreakerState, type CallOutcome, CircuitBreaker, defaultBreaker, type Permit } from '../src/mod.ts'

const { failuresInARow, minCalls, openMs, maxOpenMs, windowMs } = defaultBreaker

function call(breaker: CircuitBreaker, outcome: CallOutcome, nowMs: number): boolean {
  const permit = breaker.ask(nowMs)
  permit?.settle(outcome, nowMs)
  return permit !== undefined
}

function opened(atMs = 0): CircuitBreaker {
  const breaker = new CircuitBreaker()
  for (let i = 0; i < failuresInARow; i++) call(breaker, 'failed', atMs)
  expect(breaker.state).toBe('open')
  return breaker
}

describe('a circuit breaker', () => {
  test('opens after failures in a row, and not while answers come between them', () => {
    const breaker = new CircuitBreaker({ ...defaultBreaker, failureRate: 1 })
    for (let i = 0; i < 100; i++) call(breaker, i % failuresInARow === 0 ? 'answered' : 'failed', 0)
    expect(breaker.state).toBe('closed')
    for (let i = 0; i < failuresInARow; i++) call(breaker, 'failed', 0)
    expect(breaker.state).toBe('open')
  })

  test('opens where half of the last calls failed, and forgets what is older than its window', () => {
    const [breaker, slow] = [new CircuitBreaker(), new CircuitBreaker()]
    for (let i = 0; i < minCalls; i++) {
      call(breaker, i % 2 === 0 ? 'answered' : 'failed', i)
      call(slow, i % 2 === 0 ? 'answered' : 'failed', i * windowMs)
    }
    expect([breaker.state, slow.state]).toEqual(['open', 'closed'])
  })

  test('lets one call through when its time is over, and closes on its answer', () => {
    const breaker = opened()
    expect(breaker.ask(openMs - 1)).toBeUndefined()
    const probe = breaker.ask(openMs)!
    expect(breaker.state).toBe('half-open')
    expect(breaker.ask(openMs)).toBeUndefined()
    probe.settle('answered', openMs + 1)
    expect(breaker.state).toBe('closed')
  })

  test('waits twice as long after each probe that fails, up to a limit, and from the start again once it was closed', () => {
    const breaker = opened()
    let nowMs = 0
    for (const waitMs of [openMs, openMs * 2, openMs * 4, maxOpenMs, maxOpenMs]) {
      expect(breaker.retryAtMs(nowMs)).toBe(nowMs + waitMs)
      nowMs += waitMs
      expect(call(breaker, 'failed', nowMs)).toBe(true)
    }
    nowMs += maxOpenMs
    call(breaker, 'answered', nowMs)
    for (let i = 0; i < failuresInARow; i++) call(breaker, 'failed', nowMs)
    expect(breaker.retryAtMs(nowMs)).toBe(nowMs + openMs)
  })

  test('does not count calls that were given up; a probe that was leaves its place to the next', () => {
    const breaker = new CircuitBreaker()
    for (let i = 0; i < 100; i++) call(breaker, 'unknown', 0)
    expect(breaker.state).toBe('closed')
    const half = opened()
    expect(call(half, 'unknown', openMs)).toBe(true)
    expect(half.state).toBe('half-open')
    expect(call(half, 'answered', openMs)).toBe(true)
    expect(half.state).toBe('closed')
  })

  test('does not listen to calls that began before it opened', () => {
    const breaker = new CircuitBreaker()
    const early = breaker.ask(0)!
    for (let i = 0; i < failuresInARow; i++) call(breaker, 'failed', 0)
    early.settle('answered', 1)
    expect(breaker.state).toBe('open')
  })
})

test('whatever happens: no call passes while it is open, at most one while it is half-open, and a model that answers again is called again', () => {
  const step = fc.record({
    afterMs: fc.nat({ max: 3000 }),
    act: fc.constantFrom<'ask' | CallOutcome>('ask', 'ask', 'answered', 'failed', 'unknown'),
    which: fc.nat(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const changes: BreakerState[] = ['closed']
      const breaker = new CircuitBreaker(defaultBreaker, (state) => changes.push(state))
      const inFlight: { permit: Permit; change: number }[] = []
      let nowMs = 0
      for (const { afterMs, act, which } of steps) {
        nowMs += afterMs
        if (act === 'ask') {
          const permit = breaker.ask(nowMs)
          expect(permit === undefined && breaker.state === 'closed').toBe(false)
          expect(permit !== undefined && breaker.state === 'open').toBe(false)
          if (permit !== undefined) inFlight.push({ permit, change: changes.length })
        } else if (inFlight.length > 0) inFlight.splice(which % inFlight.length, 1)[0]!.permit.settle(act, nowMs)
        const probes = inFlight.filter(({ change }) => change === changes.length)
        if (breaker.state === 'half-open') expect(probes.length).toBeLessThanOrEqual(1)
      }
      for (const { permit } of inFlight) permit.settle('answered', nowMs)
      expect(call(breaker, 'answered', nowMs + maxOpenMs)).toBe(true)
      expect(breaker.state).toBe('closed')
      changes.forEach((state, at) => {
        if (at === 0) return
        const before = changes[at - 1]!
        expect({ closed: ['half-open'], open: ['closed', 'half-open'], 'half-open': ['open'] }[state]).toContain(before)
      })
    }),
  )
})
