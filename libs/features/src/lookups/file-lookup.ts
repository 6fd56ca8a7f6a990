import { stat } from 'node:fs/promises'
import { MeshError } from '@spillway/core'
import { type LookupTable, LookupTableBuilder } from './lookup-table.ts'
import type { PlannedLookup } from './plan.ts'
import type { LookupLogger, LookupRows, LookupSource } from './source.ts'
import { tableRows } from './table-rows.ts'

export interface FileLookupOptions {
  readonly lookup: PlannedLookup
  /** Absolute. */
  readonly path: string
  /** How often the file is looked at for a change. */
  readonly refreshMs?: number | undefined
  readonly logger?: LookupLogger | undefined
}

/** A table file, in memory. A changed file takes the old one's place as a whole; one that is bad is logged, and the old one stays. */
export class FileLookup implements LookupSource {
  private readonly options: FileLookupOptions
  private readonly stopped = new AbortController()
  private table: LookupTable | undefined
  /** What the file was when it was read. */
  private version = ''
  /** What was last wrong with a changed file. */
  private complaint = ''
  private timer: NodeJS.Timeout | undefined
  private refreshing: Promise<void> = Promise.resolve()

  constructor(options: FileLookupOptions) {
    this.options = options
  }

  /** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section, the message naming file and line */
  async start(signal: AbortSignal): Promise<void> {
    await this.load(AbortSignal.any([signal, this.stopped.signal]))
    const { refreshMs } = this.options
    if (refreshMs !== undefined && !this.stopped.signal.aborted) this.wait(refreshMs)
  }

  async drain(): Promise<void> {
    this.stopped.abort()
    clearTimeout(this.timer)
    await this.refreshing
  }

  read(keys: readonly string[], timesMs: Float64Array): Promise<LookupRows> {
    const { table } = this
    if (table === undefined) return Promise.reject(new MeshError('INTERNAL', `lookup "${this.options.lookup.title}" was not started`))
    return Promise.resolve(table.read(keys, timesMs))
  }

  private async load(signal: AbortSignal): Promise<void> {
    const { lookup, path } = this.options
    const version = await fileVersion(path)
    const builder = new LookupTableBuilder(lookup, path)
    for await (const row of tableRows(lookup, path, signal)) builder.add(row)
    signal.throwIfAborted()
    this.table = builder.build()
    this.version = version
    this.complaint = ''
  }

  private wait(refreshMs: number): void {
    this.timer = setTimeout(() => {
      this.refreshing = this.refresh().finally(() => {
        if (!this.stopped.signal.aborted) this.wait(refreshMs)
      })
    }, refreshMs)
    this.timer.unref()
  }

  private async refresh(): Promise<void> {
    const { lookup, path, logger } = this.options
    try {
      const version = await fileVersion(path)
      if (version === this.version) return
      await this.load(this.stopped.signal)
      logger?.info({ lookup: lookup.title, path, rows: this.table!.rowCount }, 'a table file has changed and is read again')
    } catch (thrown) {
      if (this.stopped.signal.aborted) return
      // Once for each thing that is wrong, not at every look.
      const { message } = thrown as Error
      if (message !== this.complaint)
        logger?.error({ err: thrown, lookup: lookup.title, path }, 'a changed table file cannot be used: the old table stays')
      this.complaint = message
    }
  }
}

/** '' where there is no file: reading it says so. */
async function fileVersion(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined)
  return found === undefined ? '' : `${found.ino}/${found.mtimeNs}/${found.size}`
}
