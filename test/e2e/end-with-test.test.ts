import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { repositoryRoot, TestProcess } from './processes.ts'

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('Given a test that is given up after its time, when its run ends, then no process that it or its file started is left', async () => {
  const vitest = join(repositoryRoot, 'node_modules', '.bin', 'vitest')
  const run = new TestProcess('vitest', vitest, ['run', '--config', join(import.meta.dirname, 'given-up', 'vitest.config.ts')], {
    cwd: repositoryRoot,
  })
  expect(await run.finished(50_000), run.output).toBe(1)
  const output = stripVTControlCharacters(run.output)
  expect(output).toMatch(/Tests +1 failed \| 1 passed/)
  expect(output).toContain('Test timed out in 2000ms')
  const started = [...output.matchAll(/^(\w+) is (\d+)\.$/gm)].map(([, name, pid]) => ({ name, pid: Number(pid) }))
  expect(started.map(({ name }) => name)).toEqual(['server', 'shared', 'child', 'leader'])
  expect(started.filter(({ pid }) => isRunning(pid))).toEqual([])
})
