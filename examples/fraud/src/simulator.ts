import { Random } from './random.ts'
import { buildWorld, dayMs, type SimulationSettings, type World } from './world.ts'

/** 0: genuine. 1: an amount over 220. 2: at a compromised terminal. 3: with leaked card details. */
export type Scenario = 0 | 1 | 2 | 3

export interface Transaction {
  /** Consecutive from 0 over the whole simulation, in order of time. */
  readonly transactionId: number
  readonly customerId: number
  readonly terminalId: number
  /** Two decimals. */
  readonly amount: number
  /** ms since the epoch; no two transactions share one. */
  readonly timeMs: number
  readonly fraud: boolean
  readonly scenario: Scenario
  /** When the label becomes known: `timeMs` plus 1 to 6 days. */
  readonly labelledAtMs: number
}

/** A transaction of one day, before its place in the whole simulation is known. */
export type DayTransaction = Omit<Transaction, 'transactionId'>

const dayStream = 2
const terminalPicks = 3
const customerPicks = 4

const terminalCompromiseDays = 28
const customerCompromiseDays = 14
const largeAmount = 220
const leakedShare = 1 / 3
const leakedFactor = 5
const labelDelayFrom = 1 * dayMs
const labelDelayTo = 6 * dayMs

/** Each day's transactions in order of time, day after day. Memory is that of one day. */
export function* simulate(settings: SimulationSettings & { readonly days: number }): Generator<readonly Transaction[]> {
  const world = buildWorld(settings)
  let nextId = 0
  for (let day = 0; day < settings.days; day++) {
    const transactions = numbered(simulateDay(world, day), nextId)
    nextId += transactions.length
    yield transactions
  }
}

export function numbered(transactions: readonly DayTransaction[], firstId: number): Transaction[] {
  return transactions.map((transaction, index) => ({ transactionId: firstId + index, ...transaction }))
}

/** One day, 0 being the first, in order of time. A day depends on the seed and its number alone, so that a simulation can be entered anywhere. */
export function simulateDay(world: World, day: number): DayTransaction[] {
  const { settings } = world
  const random = new Random(settings.seed, dayStream, day)
  const badTerminals = compromised(
    settings.seed,
    terminalPicks,
    day,
    terminalCompromiseDays,
    settings.compromisedTerminalsPerDay,
    settings.terminals,
  )
  const leakedCustomers = compromised(
    settings.seed,
    customerPicks,
    day,
    customerCompromiseDays,
    settings.compromisedCustomersPerDay,
    settings.customers,
  )
  const dayStartMs = world.startMs + day * dayMs
  const transactions: DayTransaction[] = []
  for (let customerId = 0; customerId < settings.customers; customerId++) {
    const reachable = world.reachable[customerId]!
    const leaked = leakedCustomers.has(customerId)
    for (let left = random.poisson(world.meanCounts[customerId]!); left > 0; left--) {
      const timeOfDayMs = Math.round(random.normal(43_200, 20_000) * 1000)
      // Dropped rather than drawn again, as the description has it: days are a little thinner than the customers' means.
      if (timeOfDayMs < 0 || timeOfDayMs >= dayMs || reachable.length === 0) continue
      const terminalId = reachable[random.integer(reachable.length)]!
      const timeMs = dayStartMs + timeOfDayMs
      const spent = amountOf(random, world.meanAmounts[customerId]!)
      const misused = leaked && random.uniform() < leakedShare
      const amount = misused ? Math.round(spent * leakedFactor * 100) / 100 : spent
      const scenario = misused ? 3 : badTerminals.has(terminalId) ? 2 : amount > largeAmount ? 1 : 0
      const labelledAtMs = timeMs + Math.round(random.uniform(labelDelayFrom, labelDelayTo))
      transactions.push({ customerId, terminalId, amount, timeMs, fraud: scenario !== 0, scenario, labelledAtMs })
    }
  }
  return spread(
    transactions.sort((a, b) => a.timeMs - b.timeMs),
    dayStartMs + dayMs,
  )
}

function amountOf(random: Random, mean: number): number {
  let amount = random.normal(mean, mean / 2)
  if (amount < 0) amount = random.uniform(0, 2 * mean)
  return Math.round(amount * 100) / 100
}

/** What was compromised within the last `lastingDays`, today included. */
function compromised(seed: number, stream: number, day: number, lastingDays: number, perDay: number, bound: number): Set<number> {
  const all = new Set<number>()
  for (let since = Math.max(0, day - lastingDays + 1); since <= day; since++)
    for (const picked of new Random(seed, stream, since).sample(perDay, bound)) all.add(picked)
  return all
}

/** Moves ties on by a millisecond each: windows then have no question of order within an instant. */
function spread(sorted: readonly DayTransaction[], dayEndMs: number): DayTransaction[] {
  const moved: DayTransaction[] = []
  let lastMs = -Infinity
  for (const transaction of sorted) {
    const timeMs = Math.max(transaction.timeMs, lastMs + 1)
    if (timeMs >= dayEndMs) break
    moved.push(timeMs === transaction.timeMs ? transaction : { ...transaction, timeMs })
    lastMs = timeMs
  }
  return moved
}
