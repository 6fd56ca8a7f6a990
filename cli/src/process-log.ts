import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/** The same warning is shown again after this long at the earliest. */
const quietMs = 10_000
const maxRemembered = 100

interface LogLine {
  readonly level: string
  readonly msg: string
  readonly reason?: string
  readonly err?: { readonly message?: string }
}

/** The log of a process whose terminal shows its status: every line goes to a file, and what an operator should see is shown in short. */
export class ProcessLog {
  /** Takes a warning's or an error's short form. */
  show: (text: string) => void = (text) => console.error(text)
  private readonly file: number
  private readonly shownMs = new Map<string, number>()

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true })
    this.file = openSync(path, 'a')
  }

  /** One JSON line, as the logger makes it. */
  write(line: string): void {
    writeSync(this.file, line)
    if (/^\{"level":"(trace|debug|info)"/.test(line)) return
    const { level, msg, reason, err } = JSON.parse(line) as LogLine
    // The client's own account of each attempt: what it means is said by us.
    if (msg.startsWith('kafkajs ')) return
    const nowMs = performance.now()
    if (nowMs - (this.shownMs.get(msg) ?? -Infinity) < quietMs) return
    if (this.shownMs.size === maxRemembered) this.shownMs.clear()
    this.shownMs.set(msg, nowMs)
    const why = reason ?? err?.message?.slice(0, 160)
    this.show(`${level.toUpperCase()} ${msg}${why === undefined ? '' : ` (${why})`}`)
  }

  close(): void {
    closeSync(this.file)
  }
}
