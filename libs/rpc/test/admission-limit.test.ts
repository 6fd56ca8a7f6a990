import { expect, it } from 'vitest'
import { AdmissionLimit } from '../src/admission-limit.ts'

/** So many late answers in a row are too many. */
const tooMany = 10

function fail(limit: AdmissionLimit, atMs: number, inFlight = limit.value): void {
  for (let i = 0; i < tooMany; i++) limit.late({ atMs, inFlight }, atMs)
}

it('falls from what was in flight, once for all calls that were admitted before', () => {
  const limit = new AdmissionLimit(512)
  fail(limit, 1000, 100)
  expect(limit.value).toBe(70)
  for (let i = 0; i < 50; i++) limit.late({ atMs: 900, inFlight: 100 }, 1010)
  expect(limit.value).toBe(70)
  fail(limit, 2000)
  expect(limit.value).toBe(49)
})

it('does not mind a late answer now and then', () => {
  const limit = new AdmissionLimit(512)
  for (let i = 0; i < 1000; i++) {
    limit.late({ atMs: i, inFlight: 5 }, i)
    for (let served = 0; served < 9; served++) limit.inTime(5)
  }
  expect(limit.value).toBe(512)
})

it('rises by about one where as many as are allowed were answered in time, slowly where it failed, up to the most', () => {
  const limit = new AdmissionLimit(30)
  fail(limit, 1000)
  expect(limit.value).toBe(21)
  for (let i = 0; i < 100; i++) limit.inTime(20)
  expect(limit.value).toBe(21)
  for (let i = 0; i < 21 + 22 + 23 + 24 + 4; i++) limit.inTime(limit.value)
  expect(limit.value).toBe(25)
  for (let i = 0; i < 100; i++) limit.inTime(limit.value)
  expect(limit.value).toBe(25)
  for (let i = 0; i < 10_000; i++) limit.inTime(limit.value)
  expect(limit.value).toBe(30)
})

it('never falls below 16 or what is allowed, and comes back from there', () => {
  const small = new AdmissionLimit(3)
  const limit = new AdmissionLimit(1000)
  for (let i = 0; i < 100; i++) {
    fail(limit, i)
    fail(small, i)
  }
  expect([limit.value, small.value]).toEqual([16, 3])
  for (let i = 0; i < 20_000; i++) limit.inTime(limit.value)
  expect(limit.value).toBeGreaterThan(100)
})

it('settles near what a server of a known rate can answer in time', () => {
  const deadlineMs = 500
  const perCallMs = 10
  const limit = new AdmissionLimit(512)
  const queue: { readonly atMs: number; readonly inFlight: number }[] = []
  const counts = { inTime: 0, late: 0 }
  // Two calls come in the time that one takes; they are served in order, whether anybody still waits or not.
  for (let nowMs = 0; nowMs < 200_000; nowMs += perCallMs) {
    for (let arrival = 0; arrival < 2; arrival++) if (queue.length < limit.value) queue.push({ atMs: nowMs, inFlight: queue.length + 1 })
    const answeredMs = nowMs + perCallMs
    const late = answeredMs - queue[0]!.atMs > deadlineMs
    if (late) limit.late(queue[0]!, answeredMs)
    else limit.inTime(queue.length)
    queue.shift()
    if (nowMs > 20_000) counts[late ? 'late' : 'inTime']++
  }
  expect(limit.value).toBeGreaterThan(30)
  expect(limit.value).toBeLessThanOrEqual(52)
  expect(counts.late / (counts.late + counts.inTime)).toBeLessThan(0.01)
})
