import type { Component } from '@spillway/core'
import { endAtOnce } from './end-at-once.ts'

/** Under npm one Ctrl-C comes twice: from the terminal, and passed on by npm. */
const sameSignalMs = 500

/**
 * Starts a component and drains it at the first SIGINT or SIGTERM; a second one ends the process at once.
 * @param whileRunning called once started, with a signal that fires when the drain begins
 */
export async function runUntilStopped(component: Component, whileRunning: (stopping: AbortSignal) => Promise<void> | void): Promise<void> {
  const stopping = new AbortController()
  let firstMs = 0
  const onSignal = (signal: NodeJS.Signals): void => {
    if (!stopping.signal.aborted) {
      firstMs = performance.now()
      stopping.abort()
    } else if (performance.now() - firstMs > sameSignalMs) endAtOnce(signal)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    if (!(await startedUnless(stopping.signal, component))) return
    const stopped = new Promise<void>((resolve) => {
      if (stopping.signal.aborted) resolve()
      else stopping.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    await whileRunning(stopping.signal)
    await stopped
  } finally {
    await component.drain()
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

/** @returns false where it was stopped before: what the start then throws is how it stopped */
async function startedUnless(stopping: AbortSignal, component: Component): Promise<boolean> {
  try {
    await component.start(stopping)
    return true
  } catch (error) {
    if (stopping.aborted) return false
    throw error
  }
}
