import { expect, test } from 'vitest'
import { repositoryRoot, TestProcess } from '../e2e/processes.ts'

/** Its fault cannot be carried out: the embedded bus belongs to one process. */
const script = `
  import { EmbeddedSystem } from './test/chaos/embedded-system.ts'
  import { runChaos } from './test/chaos/run.ts'

  const system = await EmbeddedSystem.start()
  const plan = [{ fault: { kind: 'scale', service: 'preprocessing', forMs: 1, signal: 'SIGTERM' }, gapMs: 1, settles: true }]
  try {
    await runChaos(system, { name: 'embedded', seed: 1, plan, minutes: 1, ratePerS: 100, calmMs: 1, sample: 1, say: () => {} })
  } catch (error) {
    console.log('broken off: ' + error.message)
  } finally {
    await system.close()
    console.log('closed')
  }
`

test('Given a run that cannot go on, when it is broken off, then its process ends by itself', { timeout: 180_000 }, async () => {
  const run = new TestProcess('a broken run', process.execPath, ['--input-type=module', '-e', script], { cwd: repositoryRoot })
  try {
    await run.printed(/closed/, 120_000)
    expect(await run.finished(20_000)).toBe(0)
    expect(run.output).toContain('broken off: the embedded bus belongs to one process')
  } finally {
    await run.stop('SIGKILL')
  }
})
