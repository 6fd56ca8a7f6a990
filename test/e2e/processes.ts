import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

export const repositoryRoot: string = join(import.meta.dirname, '..', '..')
const node = join(repositoryRoot, 'node_modules', '.bin', 'node')
const cli = join(repositoryRoot, 'cli', 'bin', 'spillway.mjs')

/** `spillway up` and `demo` listen on ports that the system picks. */
export const anyPorts: readonly string[] = ['--http-port', '0', '--grpc-port', '0', '--model-http-port', '0', '--model-grpc-port', '0']

/** A process of the test's own, with all that it printed; where `group` says so with a process group of its own, to which signals then go, as Ctrl-C does. */
export class TestProcess {
  readonly child: ChildProcess
  readonly name: string
  private readonly group: boolean
  output = ''

  constructor(name: string, command: string, args: readonly string[], options: { cwd: string; env?: NodeJS.ProcessEnv; group?: boolean }) {
    this.name = name
    const { cwd, env = process.env, group = false } = options
    this.group = group
    this.child = spawn(command, args, { cwd, env, detached: group, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (this.output += text))
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  /** Waits for a text in its output. @throws Error with the output where it ends first or the time is up */
  async printed(pattern: RegExp, timeoutMs = 60_000): Promise<RegExpExecArray> {
    return until(
      `${this.name} to print ${String(pattern)}`,
      () => {
        const match = pattern.exec(this.output)
        if (match === null && this.ended)
          throw new Error(`${this.name} ended with ${String(this.child.exitCode)}:\n${this.output.slice(-4000)}`)
        return match ?? undefined
      },
      timeoutMs,
      () => this.output.slice(-4000),
    )
  }

  /** Waits for it to end by itself. @returns the exit code @throws Error with the output where the time is up */
  async finished(timeoutMs: number): Promise<number | null> {
    await until(
      `${this.name} to end`,
      () => (this.ended ? true : undefined),
      timeoutMs,
      () => this.output.slice(-4000),
    )
    return this.child.exitCode
  }

  /** Sends the signal and waits for the end. @returns the exit code */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 30_000): Promise<number | null> {
    if (this.ended) return this.child.exitCode
    const exited = once(this.child, 'exit')
    const send = (each: NodeJS.Signals): boolean => (this.group ? process.kill(-this.child.pid!, each) : this.child.kill(each))
    send(signal)
    const timer = setTimeout(() => send('SIGKILL'), timeoutMs)
    await exited
    clearTimeout(timer)
    return this.child.exitCode
  }
}

/** A `spillway` process. */
export class SpillwayProcess extends TestProcess {
  protected readonly args: readonly string[]
  protected readonly cwd: string

  constructor(args: readonly string[], cwd: string) {
    super(args.slice(0, 2).join(' '), node, [cli, ...args], { cwd })
    this.args = args
    this.cwd = cwd
  }

  /** The same command once more. */
  again(): SpillwayProcess {
    return new SpillwayProcess(this.args, this.cwd)
  }
}

/** Polls until the condition gives a value. @throws Error naming what was waited for */
export async function until<T>(
  what: string,
  condition: () => T | undefined | Promise<T | undefined>,
  timeoutMs: number,
  detail = (): string => '',
): Promise<T> {
  const endMs = Date.now() + timeoutMs
  for (;;) {
    const value = await condition()
    if (value !== undefined) return value
    if (Date.now() > endMs) throw new Error(`gave up after ${timeoutMs} ms waiting for ${what}\n${detail()}`)
    await wait(50)
  }
}
