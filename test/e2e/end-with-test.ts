import type { ChildProcess } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'
import { afterAll, afterEach, beforeEach } from 'vitest'

/** How long a process may take once its standard input is closed: a supervised server's shell ends its server first. */
const graceMs = 5_000

/** Processes of this file's tests that run, wherever they were started. */
const running = new Set<ChildProcess>()

/**
 * Vitest `setupFiles`: no process outlives what started it. One that a test has started ends when the test fails, or is given up after its time, since
 * nobody is left to end it; whatever else a file has started ends with the file.
 */
subscribe('child_process', (message) => {
  const { process: child } = message as { readonly process: ChildProcess }
  running.add(child)
  child.once('exit', () => running.delete(child))
  // One that could not be started has no exit.
  child.once('error', () => child.pid === undefined && running.delete(child))
})

let before: ReadonlySet<ChildProcess> = new Set()
beforeEach(() => {
  before = new Set(running)
})
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await endAll([...running].filter((child) => !before.has(child)))
})
afterAll(() => endAll([...running]))

async function endAll(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(children.map(end))
}

async function end(child: ChildProcess): Promise<void> {
  if (!running.has(child)) return
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  if (child.stdin !== null && !child.stdin.destroyed) {
    const timer = setTimeout(() => kill(child), graceMs)
    child.stdin.end()
    await exited
    clearTimeout(timer)
  } else {
    kill(child)
    await exited
  }
}

/** With its process group, where it leads one: npm does not end what it runs. */
function kill(child: ChildProcess): void {
  if (child.pid === undefined || !running.has(child)) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    child.kill('SIGKILL')
  }
}
