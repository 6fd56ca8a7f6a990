import { once } from 'node:events'
import { afterAll, expect, test } from 'vitest'
import { Supervised } from '../../brokers/supervised.ts'
import { TestProcess } from '../processes.ts'

const script = "console.log('up'); setInterval(() => {}, 1000)"
const start = async (name: string, group = false): Promise<TestProcess> => {
  const started = new TestProcess(name, process.execPath, ['-e', script], { cwd: import.meta.dirname, group })
  await started.printed(/up/)
  console.log(`${name} is ${started.child.pid}.`)
  return started
}
const server = await Supervised.start({ command: [process.execPath, '-e', script], logFile: '/dev/null' })
console.log(`server is ${server.pid}.`)
const shared = await start('shared')
afterAll(() => expect(shared.ended).toBe(false))

test('gives up', { timeout: 2_000 }, async () => {
  const child = await start('child')
  await start('leader', true)
  await once(child.child, 'exit')
})

test('goes on with what was there before', () => expect(shared.ended).toBe(false))
