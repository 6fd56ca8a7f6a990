import { MeshError } from '@spillway/core'
import { Random } from './random.ts'

/** What a simulation is made of. Two simulations with equal settings give equal events. */
export interface SimulationSettings {
  readonly seed: number
  readonly customers: number
  readonly terminals: number
  /** First simulated day, `YYYY-MM-DD`, UTC. */
  readonly startDate: string
  /** Terminals that fall to fraudsters each day. */
  readonly compromisedTerminalsPerDay: number
  /** Customers whose card details leak each day. */
  readonly compromisedCustomersPerDay: number
}

/** 5,000 customers and 10,000 terminals: about 9,600 transactions a day, 0.8 % of them fraud. */
export const fullSize: SimulationSettings = {
  seed: 1,
  customers: 5000,
  terminals: 10_000,
  startDate: '2018-04-01',
  compromisedTerminalsPerDay: 2,
  compromisedCustomersPerDay: 3,
}

/** 100 customers and 200 terminals: about 150 transactions a day. For tests. */
export const smallSize: SimulationSettings = {
  ...fullSize,
  customers: 100,
  terminals: 200,
  compromisedTerminalsPerDay: 1,
  compromisedCustomersPerDay: 1,
}

/** Customers and terminals on a map of 100 by 100, and how each customer spends. */
export interface World {
  readonly settings: SimulationSettings
  readonly startMs: number
  /** Mean amount of a transaction, by customer. */
  readonly meanAmounts: Float64Array
  /** Mean number of transactions a day, by customer. */
  readonly meanCounts: Float64Array
  /** The terminals that each customer can reach: those within a distance of 5. */
  readonly reachable: readonly Uint32Array[]
}

export const dayMs = 86_400_000

const mapSize = 100
const reach = 5
const worldStream = 1

/** @throws MeshError INVALID_ARGUMENT for settings that describe no world. */
export function buildWorld(settings: SimulationSettings): World {
  const startMs = Date.parse(`${settings.startDate}T00:00:00Z`)
  if (Number.isNaN(startMs))
    throw new MeshError('INVALID_ARGUMENT', `startDate must be a day such as 2018-04-01, not "${settings.startDate}"`, {
      field: 'startDate',
    })
  for (const field of ['customers', 'terminals'] as const) {
    if (!Number.isInteger(settings[field]) || settings[field] < 1)
      throw new MeshError('INVALID_ARGUMENT', `${field} must be a whole number from 1 up, not ${settings[field]}`, { field })
  }
  const random = new Random(settings.seed, worldStream)
  const terminalX = Float64Array.from({ length: settings.terminals }, () => random.uniform(0, mapSize))
  const terminalY = Float64Array.from({ length: settings.terminals }, () => random.uniform(0, mapSize))
  const meanAmounts = new Float64Array(settings.customers)
  const meanCounts = new Float64Array(settings.customers)
  const reachable: Uint32Array[] = []
  for (let customer = 0; customer < settings.customers; customer++) {
    const x = random.uniform(0, mapSize)
    const y = random.uniform(0, mapSize)
    meanAmounts[customer] = random.uniform(5, 100)
    meanCounts[customer] = random.uniform(0, 4)
    reachable.push(within(x, y, terminalX, terminalY))
  }
  return { settings, startMs, meanAmounts, meanCounts, reachable }
}

function within(x: number, y: number, terminalX: Float64Array, terminalY: Float64Array): Uint32Array {
  const near: number[] = []
  for (let terminal = 0; terminal < terminalX.length; terminal++) {
    const distanceX = terminalX[terminal]! - x
    const distanceY = terminalY[terminal]! - y
    if (distanceX * distanceX + distanceY * distanceY < reach * reach) near.push(terminal)
  }
  return Uint32Array.from(near)
}
