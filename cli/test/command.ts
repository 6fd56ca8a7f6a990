import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

const root = join(import.meta.dirname, '..', '..')
const node = join(root, 'node_modules', '.bin', 'node')
const bin = join(root, 'cli', 'bin', 'spillway.mjs')

/** The fraud example's pipeline file. */
export const examplePipeline: string = join(root, 'examples', 'fraud', 'pipeline.yaml')

/** Free ports instead of the defaults. */
export const freePorts: readonly string[] = ['--http-port', '0', '--grpc-port', '0', '--model-http-port', '0', '--model-grpc-port', '0']

/** A `spillway` command of the test's own. */
export class Command {
  stdout = ''
  stderr = ''
  private readonly child: ChildProcess
  private readonly exited: Promise<unknown>

  constructor(args: readonly string[], cwd: string) {
    this.child = spawn(node, [bin, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => (this.stdout += text))
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.stderr += text))
    this.exited = once(this.child, 'close')
  }

  /** Waits until it has printed a text, on either stream. */
  async printed(pattern: RegExp, timeoutMs = 40_000): Promise<RegExpExecArray> {
    for (const endMs = Date.now() + timeoutMs; Date.now() < endMs; await wait(50)) {
      const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr)
      if (match !== null) return match
      if (this.child.exitCode !== null) break
    }
    throw new Error(`it did not print ${String(pattern)}:\n${this.stdout.slice(-2000)}\n${this.stderr.slice(-2000)}`)
  }

  /** That ended it, where one did. */
  get endedBy(): NodeJS.Signals | null {
    return this.child.signalCode
  }

  /** Its exit code once it has ended by itself; null where it had to be killed. */
  async ended(timeoutMs = 40_000): Promise<number | null> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), timeoutMs)
    await this.exited
    clearTimeout(timer)
    return this.child.exitCode
  }

  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<number | null> {
    if (this.child.exitCode === null) this.child.kill(signal)
    return this.ended(20_000)
  }
}

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. */
export async function spillway(args: readonly string[], cwd: string): Promise<Outcome> {
  const command = new Command(args, cwd)
  return { code: await command.ended(), stdout: command.stdout, stderr: command.stderr }
}
