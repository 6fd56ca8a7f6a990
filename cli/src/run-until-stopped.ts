import type { Component } from '@spillway/core'

/** Under npm one Ctrl-C comes twice: from the terminal, and passed on by npm. */
const sameSignalMs = 500

/**
 * Starts a component and drains it at the first SIGINT or SIGTERM; a second one ends the process at once.
 * @param whileRunning called once started, with a signal that fires when the drain begins
 */
export async function runUntilStopped(component: Component, whileRunning: (stopping: AbortSignal) => Promise<void> | void): Promise<void> {
  const stopping = new AbortController()
  let firstMs = 0
  const onSignal = (): void => {
    if (!stopping.signal.aborted) {
      firstMs = performance.now()
      stopping.abort()
    } else if (performance.now() - firstMs > sameSignalMs) process.exit(130)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    await component.start(stopping.signal)
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
