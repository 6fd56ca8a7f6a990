import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { playEvents } from '../src/play-list.ts'
import { simulate, type Transaction } from '../src/simulator.ts'
import { buildWorld, dayMs, fullSize, smallSize } from '../src/world.ts'

function transactionsOf(settings: Parameters<typeof simulate>[0]): Transaction[] {
  return [...simulate(settings)].flat()
}

function digest(transactions: readonly Transaction[]): string {
  return createHash('sha256').update(JSON.stringify(transactions)).digest('hex')
}

describe('the simulation', () => {
  it('is the same for the same seed, and another for another', () => {
    const settings = { ...smallSize, days: 20 }
    expect(digest(transactionsOf(settings))).toBe(digest(transactionsOf(settings)))
    expect(digest(transactionsOf(settings))).not.toBe(digest(transactionsOf({ ...settings, seed: 2 })))
  })

  it('numbers transactions from 0 in order of time, no two at one instant', () => {
    const transactions = transactionsOf({ ...smallSize, days: 10 })
    expect(transactions.map(({ transactionId }) => transactionId)).toEqual(transactions.map((_, index) => index))
    for (let i = 1; i < transactions.length; i++) expect(transactions[i]!.timeMs).toBeGreaterThan(transactions[i - 1]!.timeMs)
  })

  it('has the size and the fraud that its description leads to', () => {
    const days = [...simulate({ ...fullSize, days: 40 })]
    const late = days.slice(30).flat()
    const perDay = late.length / 10
    // 5,000 customers at 2 a day, less the 3.1 % of a normal (43,200 s, 20,000 s) outside the day.
    expect(perDay).toBeGreaterThan(9400)
    expect(perDay).toBeLessThan(9900)
    const mean = late.reduce((sum, { amount }) => sum + amount, 0) / late.length
    expect(mean).toBeGreaterThan(51)
    expect(mean).toBeLessThan(58)
    const daily = (scenario: number): number => late.filter((transaction) => transaction.scenario === scenario).length / 10
    expect(daily(1)).toBeGreaterThan(1)
    // 56 terminals with 0.97 transactions a day each; 42 customers with a third of 1.94 each.
    expect(daily(2)).toBeGreaterThan(35)
    expect(daily(2)).toBeLessThan(75)
    expect(daily(3)).toBeGreaterThan(15)
    expect(daily(3)).toBeLessThan(45)
    expect(late.every(({ amount, scenario }) => amount <= 220 || scenario !== 0)).toBe(true)
    expect(late.every(({ amount }) => amount >= 0 && Math.round(amount * 100) / 100 === amount)).toBe(true)
  })

  it('refuses settings that describe no world, naming the setting', () => {
    expect(() => buildWorld({ ...smallSize, customers: 0 })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'customers' }),
    )
    expect(() => buildWorld({ ...smallSize, startDate: 'spring' })).toThrow(expect.objectContaining({ field: 'startDate' }))
  })
})

describe('the play list', () => {
  const world = buildWorld(smallSize)

  it('plays each transaction at its time, and its label once, one to six days later', () => {
    const untilMs = world.startMs + 30 * dayMs
    const labelled = new Set<number>()
    const played = new Set<number>()
    let lastMs = 0
    for (const { topic, atMs, transaction } of playEvents(world)) {
      if (atMs >= untilMs) break
      expect(atMs).toBeGreaterThanOrEqual(lastMs)
      lastMs = atMs
      const delayDays = (atMs - transaction.timeMs) / dayMs
      if (topic === 'transactions') {
        expect(delayDays).toBe(0)
        played.add(transaction.transactionId)
      } else {
        expect(delayDays).toBeGreaterThanOrEqual(1)
        expect(delayDays).toBeLessThanOrEqual(6)
        expect(played.has(transaction.transactionId)).toBe(true)
        expect(labelled.has(transaction.transactionId)).toBe(false)
        labelled.add(transaction.transactionId)
      }
    }
    const due = transactionsOf({ ...smallSize, days: 24 })
    expect(due.every(({ transactionId }) => labelled.has(transactionId))).toBe(true)
  })

  it('is the same wherever it is entered', () => {
    const firstId = transactionsOf({ ...smallSize, days: 15 }).length
    const fromStart = playEvents(world).filter(({ atMs }) => atMs >= world.startMs + 15 * dayMs)
    const entered = playEvents(world, { day: 15, firstId })
    expect(entered.take(2000).toArray()).toEqual(fromStart.take(2000).toArray())
  })
})
