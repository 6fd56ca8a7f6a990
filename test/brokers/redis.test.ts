import { Redis } from 'ioredis'
import { afterAll, expect, test } from 'vitest'
import { sharedRedis, startRedis } from './mod.ts'

const server = await startRedis({ withFaults: true })
const shared = await sharedRedis()
afterAll(async () => {
  if (!('skipped' in server)) await server.stop()
})

test('Given a write that was acknowledged, when the server is killed and started again, then it is there, at the same address', async (given) => {
  if ('skipped' in server) return given.skip(server.skipped)
  const { url, faults } = server
  const client = new Redis(url, { maxRetriesPerRequest: 0, retryStrategy: () => 20 })
  client.on('error', () => {}) // While it is away the client reports each attempt; the commands tell.
  await client.set('key', 'value')
  await faults!.kill()
  await expect(client.get('key')).rejects.toThrow()
  await faults!.restart()
  await expect.poll(async () => client.get('key').catch(() => undefined)).toBe('value')
  faults!.pause()
  const late = client.get('key')
  const first = await Promise.race([late, new Promise((resolve) => setTimeout(() => resolve('nothing yet'), 100))])
  expect(first).toBe('nothing yet')
  faults!.resume()
  expect(await late).toBe('value')
  client.disconnect()
})

test('The run’s shared server answers', async (given) => {
  if ('skipped' in shared) return given.skip(shared.skipped)
  const client = new Redis(shared.url)
  expect(await client.ping()).toBe('PONG')
  client.disconnect()
  await shared.stop()
})
