import { expect, test } from 'vitest'
import { serviceNames } from '../../src/options.ts'
import { read } from '../mesh-run.ts'
import { HeavyServer } from './heavy-server.ts'
import { endsWithTest, eventOf, modelFolder, type Prediction, publish, startHost, sure, twoTiers, unsure } from './two-tiers.ts'

const users = 10
const count = 400

/** Every third event of a user is escalated, to a model that is slow. @returns for each user the numbers of its events, in the order of their answers */
async function answered(more: string): Promise<ReadonlyMap<string, readonly number[]>> {
  const heavy = new HeavyServer()
  heavy.delayMs = 40
  const pipeline = twoTiers(await modelFolder(), await heavy.start(), `slices: { maxRecords: 10 }\n${more}`)
  endsWithTest({ drain: () => heavy.stop() })
  const host = await startHost(pipeline, serviceNames)
  await publish(
    host.bus,
    Array.from({ length: count }, (_, n) => eventOf(n, `user-${n % users}`, Math.floor(n / users) % 3 === 0 ? unsure : sure)),
  )
  const byUser = new Map<string, number[]>()
  for (const { value } of await read(host.bus, 'predictions', count)) {
    const { n, user } = JSON.parse(value.toString()) as Prediction
    byUser.set(user, [...(byUser.get(user) ?? []), n])
  }
  expect(heavy.calls).toBeGreaterThan(0)
  return byUser
}

const inOrder = (numbers: readonly number[]): boolean => numbers.every((n, at) => at === 0 || n > numbers[at - 1]!)

test('with ordering per-key a user’s answers come in the order of its events, though some wait for a slow tier', async () => {
  const byUser = await answered('ordering: per-key')
  expect([...byUser.values()].map((numbers) => numbers.length)).toEqual(new Array(users).fill(count / users))
  expect([...byUser.values()].every(inOrder)).toBe(true)
})

test('over a topic they do not, which is why the two are not allowed together', async () => {
  const byUser = await answered('placement: { escalations: topic }')
  expect([...byUser.values()].every(inOrder)).toBe(false)
})
