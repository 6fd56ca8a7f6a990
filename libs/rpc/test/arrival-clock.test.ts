import { expect, it } from 'vitest'
import { ArrivalClock } from '../src/arrival-clock.ts'

it('takes what comes after a rest to have come just now, and what a long turn kept waiting to have come when that began', async () => {
  const time = { nowMs: 1000, idleMs: 500 }
  const clock = new ArrivalClock({ now: () => time.nowMs, idle: () => time.idleMs })
  /** A turn of the event loop that reads two calls and then works. @returns when the first may have come */
  const turn = async (workMs: number): Promise<number> => {
    const arrivedMs = clock.arrivedMs()
    time.nowMs += workMs
    expect(clock.arrivedMs()).toBe(arrivedMs)
    await new Promise(setImmediate)
    return arrivedMs
  }
  expect(await turn(40)).toBe(1000)
  expect(await turn(2)).toBe(1000)
  expect(await turn(3)).toBe(1040)
  time.nowMs += 60
  time.idleMs += 60
  expect(await turn(1)).toBe(1105)
})

it('knows a rest of the event loop', async () => {
  const clock = new ArrivalClock()
  clock.arrivedMs()
  await new Promise((resolve) => setTimeout(resolve, 30))
  const beforeMs = Date.now()
  expect(clock.arrivedMs()).toBeGreaterThanOrEqual(beforeMs)
})
