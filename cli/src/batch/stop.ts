import { MeshError } from '@spillway/core'
import { endAtOnce } from '../end-at-once.ts'

/** Under npm one Ctrl-C comes twice: from the terminal, and passed on by npm. */
const sameSignalMs = 500

/**
 * Does a piece of work that Ctrl-C (SIGINT, SIGTERM) ends early; a second one ends the process at once. Ended early, the exit code is 130.
 * @param stopped what to say where it was ended early
 */
export async function untilStopped(work: (signal: AbortSignal) => Promise<void>, stopped: string): Promise<void> {
  const stopping = new AbortController()
  let firstMs = 0
  const onSignal = (signal: NodeJS.Signals): void => {
    if (!stopping.signal.aborted) {
      firstMs = performance.now()
      stopping.abort(new MeshError('CANCELLED', 'stopped'))
    } else if (performance.now() - firstMs > sameSignalMs) endAtOnce(signal)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    await work(stopping.signal)
  } catch (thrown) {
    if (!stopping.signal.aborted || MeshError.from(thrown).code !== 'CANCELLED') throw thrown
    console.error(`spillway: ${stopped}`)
    process.exitCode = 130
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}
