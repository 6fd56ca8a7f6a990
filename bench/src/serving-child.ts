import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

/** A script in a process of its own that answers one message after the other (`answerMessages`). */
export class Child {
  readonly #name: string
  readonly #process: ChildProcess
  #exit: Error | undefined

  /** @param script beside this file */
  constructor(script: string, nodeArgs: readonly string[] = []) {
    this.#name = script
    // Buffers stay buffers on the way.
    this.#process = fork(new URL(`./${script}`, import.meta.url), {
      serialization: 'advanced',
      execArgv: [...process.execArgv, ...nodeArgs],
    })
    this.#process.once('exit', (code, signal) => (this.#exit = new Error(`${script} ended with ${String(code ?? signal)}`)))
  }

  get pid(): number {
    return this.#process.pid!
  }

  /** @throws Error what the script threw, or that it ended. */
  async ask<Answer>(task: string, argument?: unknown): Promise<Answer> {
    if (this.#exit !== undefined) throw this.#exit
    const waits = new AbortController()
    const answered = once(this.#process, 'message', { signal: waits.signal })
    const ended = once(this.#process, 'exit', { signal: waits.signal })
    this.#process.send({ task, argument })
    try {
      const [first] = (await Promise.race([answered, ended])) as [{ answer?: Answer; error?: string } | number | null]
      if (first === null || typeof first !== 'object') throw new Error(`${this.#name} ended during "${task}"`)
      if (first.error !== undefined) throw new Error(`${this.#name}, ${task}: ${first.error}`)
      return first.answer as Answer
    } finally {
      waits.abort()
      await Promise.allSettled([answered, ended])
    }
  }

  async stop(): Promise<void> {
    if (this.#exit !== undefined) return
    const ended = once(this.#process, 'exit')
    this.#process.disconnect()
    const limit = setTimeout(() => this.#process.kill('SIGKILL'), 15_000)
    await ended
    clearTimeout(limit)
  }
}

/** The other side: `tasks` by name; when the parent lets go, or ends, `close` is called and the process ends. */
export function answerMessages(tasks: Readonly<Record<string, (argument: never) => unknown>>, close?: () => Promise<void>): void {
  process.on('message', ({ task, argument }: { task: string; argument: never }) => {
    void (async () => tasks[task]!(argument))().then(
      (answer: unknown) => process.send!({ answer }),
      (error: Error) => process.send!({ error: error.stack ?? error.message }),
    )
  })
  process.once('disconnect', () => {
    void (close?.() ?? Promise.resolve()).finally(() => process.exit(0))
  })
}
