import { setTimeout as wait } from 'node:timers/promises'
import { SpillwayProcess } from '../e2e/processes.ts'

const restartMs = 500
/** A drain that takes longer than this is ended. */
const drainMs = 30_000
const keptLogCharacters = 4_000_000

/** What the supervisor of a service would do: keeps it running, and starts it again where it ends by itself. */
export class Instance {
  readonly name: string
  /** Its health and metrics. */
  readonly httpPort: number
  /** Ends that nobody asked for, by the last words of each. */
  readonly crashes: string[] = []
  /** SIGTERMs that did not end with 0. */
  readonly badDrains: string[] = []
  /** How long each drain took, ms. */
  readonly drainsMs: number[] = []
  readonly #arguments: readonly string[]
  readonly #folder: string
  #process: SpillwayProcess | undefined
  #before = ''
  #isWanted = false

  constructor(options: { name: string; httpPort: number; arguments: readonly string[]; folder: string }) {
    this.name = options.name
    this.httpPort = options.httpPort
    this.#arguments = options.arguments
    this.#folder = options.folder
  }

  /** What it printed since it was last started. */
  get output(): string {
    return this.#process?.output ?? ''
  }

  /** What it printed before that too, as far as that is kept. */
  get log(): string {
    return this.#before + this.output
  }

  start(): void {
    this.#isWanted = true
    this.#before = this.#process === undefined ? '' : `${this.log}\n`.slice(-keptLogCharacters)
    const started = new SpillwayProcess(this.#arguments, this.#folder)
    this.#process = started
    started.child.once('exit', (code, signal) => {
      if (!this.#isWanted || this.#process !== started) return
      this.crashes.push(`${this.name} ended by itself (${code ?? signal}): ${started.output.slice(-600)}`)
      setTimeout(() => {
        if (this.#isWanted && this.#process === started) this.start()
      }, restartMs)
    })
  }

  /** @returns once it is gone */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.#isWanted = false
    const ending = this.#process
    if (ending === undefined || ending.ended) return
    const sinceMs = performance.now()
    const code = await ending.stop(signal, drainMs)
    if (signal !== 'SIGTERM') return
    this.drainsMs.push(performance.now() - sinceMs)
    // Without a code the signal came before the process was there to hear it.
    if (code !== 0 && ending.child.signalCode !== 'SIGTERM')
      this.badDrains.push(`${this.name} ended its drain with ${code ?? 'a kill'}: ${ending.output.slice(-600)}`)
  }

  pause(): void {
    this.#process?.child.kill('SIGSTOP')
  }

  resume(): void {
    this.#process?.child.kill('SIGCONT')
  }

  /** Its metrics; undefined where it does not answer. */
  async metrics(): Promise<string | undefined> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.httpPort}/metrics`, { signal: AbortSignal.timeout(2000) })
      return response.ok ? await response.text() : undefined
    } catch {
      // Not there, or not yet: that is the answer.
      return undefined
    }
  }

  /** Waits until it answers. */
  async ready(timeoutMs: number): Promise<void> {
    const endMs = performance.now() + timeoutMs
    while ((await this.metrics()) === undefined) {
      if (performance.now() > endMs)
        throw new Error([`${this.name} does not answer after ${timeoutMs} ms:`, ...this.crashes, this.output.slice(-3000)].join('\n'))
      await wait(100)
    }
  }
}
