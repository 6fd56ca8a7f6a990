import { expect, it } from 'vitest'
import { ArrivalClock } from '../src/arrival-clock.ts'

/** A turn of the event loop that began at `beganMs`, read something, and worked until `endedMs`. @returns when what it read may have come */
async function turn(clock: ArrivalClock, time: { nowMs: number }, beganMs: number, endedMs: number): Promise<number> {
  time.nowMs = beganMs
  const arrivedMs = clock.arrivedMs()
  time.nowMs = endedMs
  // All that a turn reads has waited as long.
  expect(clock.arrivedMs()).toBe(arrivedMs)
  await new Promise(setImmediate)
  return arrivedMs
}

it('takes what comes after a rest to have come just now, and what a long turn kept waiting to have come when that began', async () => {
  const time = { nowMs: 0 }
  const clock = new ArrivalClock(() => time.nowMs)
  expect(await turn(clock, time, 1000, 1040)).toBe(1000)
  expect(await turn(clock, time, 1040, 1041)).toBe(1000)
  expect(await turn(clock, time, 1041, 1042)).toBe(1040)
  expect(await turn(clock, time, 1100, 1101)).toBe(1100)
})
