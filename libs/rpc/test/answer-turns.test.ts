import { expect, it } from 'vitest'
import { AnswerTurns } from '../src/answer-turns.ts'

it('spreads long work over turns of the event loop, in order, and does a little at once', async () => {
  const turns = new AnswerTurns()
  const given: number[] = []
  const work = (name: number, ms: number): void =>
    turns.give(() => {
      for (const endMs = performance.now() + ms; performance.now() < endMs;);
      given.push(name)
    })
  work(1, 0.7)
  work(2, 0.7)
  work(3, 0.7)
  work(4, 0)
  expect(given).toEqual([1, 2])
  await expect.poll(() => given).toEqual([1, 2, 3, 4])
  let timers = 0
  const timer = setInterval(() => timers++, 1)
  for (let i = 5; i < 25; i++) work(i, 1.1)
  expect(given).toEqual([1, 2, 3, 4, 5])
  await expect.poll(() => given.length, { interval: 1 }).toBe(24)
  clearInterval(timer)
  expect(given).toEqual(Array.from({ length: 24 }, (_, i) => i + 1))
  // Others had their turn in between.
  expect(timers).toBeGreaterThan(5)
})
