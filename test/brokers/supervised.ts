import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** Starts the command, says its process id, and kills it when our end of the pipe closes, however we ended: a server does not watch for that itself. */
const supervisor = '"$@" >&2 & child=$!; echo $child; cat >/dev/null; kill -9 $child 2>/dev/null; wait $child'

export interface SupervisedOptions {
  /** The command and its arguments. */
  readonly command: readonly string[]
  /** File that takes what it prints, at its end. */
  readonly logFile: string
  /** On top of our own. */
  readonly environment?: Readonly<Record<string, string>>
}

/** A process of ours that never outlives us. */
export class Supervised {
  /** Of the command itself, not of the shell around it. */
  readonly pid: number
  readonly #shell: ChildProcess

  private constructor(shell: ChildProcess, pid: number) {
    this.#shell = shell
    this.pid = pid
  }

  static async start({ command, logFile, environment }: SupervisedOptions): Promise<Supervised> {
    const log = openSync(logFile, 'a')
    const shell = spawn('sh', ['-c', supervisor, 'supervised', ...command], {
      stdio: ['pipe', 'pipe', log],
      env: { ...process.env, ...environment },
    })
    closeSync(log)
    const [line] = (await once(createInterface(shell.stdout!), 'line')) as [string]
    return new Supervised(shell, Number(line))
  }

  /** `kill -9`, resolves when it is gone; idempotent. */
  async kill(): Promise<void> {
    if (this.#shell.exitCode !== null || this.#shell.signalCode !== null) return
    const exited = once(this.#shell, 'exit')
    this.#shell.stdin?.end()
    await exited
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    process.kill(this.pid, signal)
  }
}
