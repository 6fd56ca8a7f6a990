import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { MeshError } from '@spillway/core'
import type { HistoryEntry, HistoryRead, HistorySettings, HistoryStore, HistoryWrite, PackedHistory } from '../store.ts'
import { DirtyKeys } from './dirty-keys.ts'
import { HistoryDatabase } from './history-database.ts'
import { decodeWrites, encodeWrites } from './journal.ts'
import { KeyCache } from './key-cache.ts'
import { KeyExpiry } from './key-expiry.ts'
import { KeyHistory } from '../windows/key-history.ts'

export interface EmbeddedHistoryStoreOptions {
  /** SQLite file, or ':memory:'. The embedded bus's file is welcome: its commits then come after the history that they rest on. */
  readonly path: string
  /**
   * What keys in memory may take: 192 MiB where absent. With less than three times what the keys in use take (each about 1 kB and 28 bytes an entry),
   * they are packed more often, and an append costs up to twice as much.
   */
  readonly cacheBytes?: number
  /** For a file of its own: refuses to start where another process has it, and keeps others off. */
  readonly exclusive?: boolean
  /**
   * `asked`: what is appended survives the process only from the next `commit` on, and goes whole where it ends before: for a batch run, whose histories
   * must be as of its checkpoint, not ahead of it. The file must be its own. Each append where absent.
   */
  readonly commits?: 'asked'
  /** How many entries of a key with very many are summed up at a time: 64 where absent. Numbers do not depend on it: tests set it. */
  readonly tileSize?: number
}

const defaultCacheBytes = 192 * 1024 * 1024
/**
 * Histories of one process in SQLite. An append is one journal row, written in one transaction with the packed values of a few keys that have waited longest:
 * every key's own row follows the journal at a steady pace, without a pause in which all are written, and the journal stays short.
 * Keys in memory are at the journal's head; a start reads it back.
 */
export class EmbeddedHistoryStore implements HistoryStore {
  readonly scope = 'process'
  private readonly options: EmbeddedHistoryStoreOptions
  private readonly cache: KeyCache
  private database: HistoryDatabase | undefined
  private readonly historyIds = new Map<string, number>()
  private readonly dirty: DirtyKeys
  private readonly expiry: KeyExpiry
  /** Of the newest journal row. */
  private sequence = 0

  constructor(options: EmbeddedHistoryStoreOptions) {
    this.options = options
    const { cacheBytes = defaultCacheBytes } = options
    this.cache = new KeyCache(cacheBytes)
    this.dirty = new DirtyKeys(cacheBytes)
    this.expiry = new KeyExpiry(this.cache)
  }

  /** @throws MeshError FAILED_PRECONDITION where the file cannot be opened, or belongs to another process */
  // oxlint-disable-next-line typescript/require-await
  async start(_signal: AbortSignal): Promise<void> {
    if (this.options.path !== ':memory:') mkdirSync(dirname(this.options.path), { recursive: true })
    this.database = new HistoryDatabase(this.options.path, this.options.exclusive === true, this.commitsAreAsked)
    this.expiry.start(this.database)
    for (const { sequence, bytes } of this.database.journal()) {
      this.sequence = sequence
      for (const { historyId, key, entries } of decodeWrites(bytes))
        this.apply(this.historyOf(this.database.settings(historyId), historyId, key), entries)
      this.cache.trim()
      this.dirty.journalled(bytes.byteLength)
    }
  }

  // oxlint-disable-next-line typescript/require-await
  async drain(): Promise<void> {
    const { database } = this
    if (database === undefined) return
    this.database = undefined
    try {
      if (this.commitsAreAsked) return
      database.transaction(() => {
        for (const history of this.dirty) database.put(history)
        database.forgetJournal(this.sequence)
      })
    } finally {
      database.close()
    }
  }

  // oxlint-disable-next-line typescript/require-await
  async origin(topic: string, partition: number): Promise<number> {
    return this.open().origin(topic, partition)
  }

  /** Its keys belong to one process as a whole: what is in memory stays true. */
  release(): void {}

  get identity(): string {
    return this.open().identity
  }

  /**
   * Commits what was appended since the last commit, with a note of what it is as of, to the disk.
   * @throws MeshError FAILED_PRECONDITION unless `commits` is `asked`; UNAVAILABLE
   */
  commit(note: string): void {
    if (!this.commitsAreAsked) throw new MeshError('FAILED_PRECONDITION', 'each append of this store is committed by itself')
    this.open().commit(note)
  }

  /** The last commit's; undefined before the first. */
  get note(): string | undefined {
    return this.open().note()
  }

  private get commitsAreAsked(): boolean {
    return this.options.commits === 'asked'
  }

  /** Arrays are the cache's own, live until the next turn of the event loop. */
  // oxlint-disable-next-line typescript/require-await
  async read(reads: readonly HistoryRead[]): Promise<readonly (readonly PackedHistory[])[]> {
    const database = this.open()
    this.cache.trim()
    return reads.map(({ history, keys, owner }) => {
      const id = this.historyId(database, history)
      const origin = owner === undefined ? undefined : database.origin(owner.topic, owner.partition)
      return keys.map((key) => this.historyOf(history, id, key, origin))
    })
  }

  // oxlint-disable-next-line typescript/require-await
  async append(writes: readonly HistoryWrite[]): Promise<void> {
    if (writes.length === 0) return
    const database = this.open()
    const ids = writes.map(({ history }) => this.historyId(database, history))
    const bytes = encodeWrites(writes, ids)
    const sequence = this.sequence + 1
    let entryCount = 0
    for (const { entries } of writes) entryCount += entries.length
    const packed = this.dirty.waitingLongest(entryCount)
    let rowIds: readonly number[] = []
    let swept = (): void => {}
    database.transaction(() => {
      database.addToJournal(sequence, bytes)
      rowIds = packed.map((history) => database.put(history))
      database.forgetJournal(this.dirty.neededFrom(packed, sequence) - 1)
      swept = this.expiry.sweep(database, packed.length)
    })
    // Only what is committed is remembered.
    this.sequence = sequence
    swept()
    packed.forEach((history, index) => {
      this.dirty.markClean(history, rowIds[index]!)
      this.cache.clean(history)
    })
    writes.forEach(({ history, key, entries }, index) => {
      if (entries.length > 0) this.apply(this.historyOf(history, ids[index]!, key), entries)
    })
    this.cache.trim()
    this.expiry.appended(writes)
    this.dirty.journalled(bytes.byteLength)
  }

  private open(): HistoryDatabase {
    if (this.database === undefined) throw new MeshError('UNAVAILABLE', 'the feature store is not started, or drained', { isOutage: true })
    return this.database
  }

  private historyId(database: HistoryDatabase, history: HistorySettings): number {
    let id = this.historyIds.get(history.name)
    if (id === undefined) {
      id = database.historyId(history)
      this.historyIds.set(history.name, id)
      this.expiry.keeps(id, history.retentionMs)
    }
    return id
  }

  /** @param origin the partition that alone feeds the key, where that is known */
  private historyOf(settings: HistorySettings, id: number, key: string, origin?: number): KeyHistory {
    const cached = this.cache.get(id, key)
    if (cached !== undefined) {
      // What the journal gave back came with the settings of before.
      cached.settings = settings
      return cached
    }
    const history = new KeyHistory(settings, id, key, this.options.tileSize)
    this.open().load(history)
    if (history.rowId === 0) history.forgottenBeforeMs = this.expiry.forgottenBeforeMs(id, origin)
    this.cache.put(history)
    return history
  }

  private apply(history: KeyHistory, entries: readonly HistoryEntry[]): void {
    const before = history.bytes
    history.add(entries)
    const grown = history.bytes - before
    this.dirty.add(history, this.sequence, grown)
    this.cache.changed(history, grown)
  }
}
