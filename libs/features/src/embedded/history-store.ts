import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { MeshError } from '@spillway/core'
import type { HistoryEntry, HistoryRead, HistorySettings, HistoryStore, HistoryWrite, PackedHistory } from '../store.ts'
import { HistoryDatabase } from './history-database.ts'
import { decodeWrites, encodeWrites } from './journal.ts'
import { KeyCache } from './key-cache.ts'
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
/** A start reads the journal: 32 MiB are about a second. */
const journalLimitBytes = 32 * 1024 * 1024
/** Of the cache, at most so much waits to be packed; less than the half that a generation holds. */
const mostDirty = 3 / 8
/** One key is packed for so many entries appended: the journal then holds about that many entries a key in use. */
const entriesPerPack = 32

/**
 * Histories of one process in SQLite. An append is one journal row, written in one transaction with the packed values of a few keys that have waited longest:
 * every key's own row follows the journal at a steady pace, without a pause in which all are written, and the journal stays short.
 * Keys in memory are at the journal's head; a start reads it back.
 */
export class EmbeddedHistoryStore implements HistoryStore {
  readonly scope = 'process'
  private readonly options: EmbeddedHistoryStoreOptions
  private readonly cacheBytes: number
  private readonly cache: KeyCache
  private database: HistoryDatabase | undefined
  private readonly historyIds = new Map<string, number>()
  /** In the order in which they became dirty. */
  private readonly dirty = new Set<KeyHistory>()
  private dirtyBytes = 0
  /** Of the newest journal row. */
  private sequence = 0
  /** All that the journal has taken since the start. */
  private writtenBytes = 0
  /** Entries appended since a key was last packed. */
  private sincePack = 0

  constructor(options: EmbeddedHistoryStoreOptions) {
    this.options = options
    this.cacheBytes = options.cacheBytes ?? defaultCacheBytes
    this.cache = new KeyCache(this.cacheBytes)
  }

  /** @throws MeshError FAILED_PRECONDITION where the file cannot be opened, or belongs to another process */
  // oxlint-disable-next-line typescript/require-await
  async start(_signal: AbortSignal): Promise<void> {
    if (this.options.path !== ':memory:') mkdirSync(dirname(this.options.path), { recursive: true })
    this.database = new HistoryDatabase(this.options.path, this.options.exclusive === true, this.commitsAreAsked)
    for (const { sequence, bytes } of this.database.journal()) {
      this.sequence = sequence
      for (const { historyId, key, entries } of decodeWrites(bytes))
        this.apply(this.historyOf(this.database.settings(historyId), historyId, key), entries)
      this.writtenBytes += bytes.byteLength
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
    return reads.map(({ history, keys }) => {
      const id = this.historyId(database, history)
      return keys.map((key) => this.historyOf(history, id, key))
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
    const packed = this.waitingLongest(entryCount)
    let rowIds: readonly number[] = []
    database.transaction(() => {
      database.addToJournal(sequence, bytes)
      rowIds = packed.map((history) => database.put(history))
      database.forgetJournal(this.neededFrom(packed, sequence) - 1)
    })
    // Only what is committed is remembered.
    this.sequence = sequence
    this.markClean(packed, rowIds)
    writes.forEach(({ history, key, entries }, index) => {
      if (entries.length > 0) this.apply(this.historyOf(history, ids[index]!, key), entries)
    })
    this.writtenBytes += bytes.byteLength
  }

  private open(): HistoryDatabase {
    if (this.database === undefined) throw new MeshError('UNAVAILABLE', 'the feature store is not started, or drained')
    return this.database
  }

  private historyId(database: HistoryDatabase, history: HistorySettings): number {
    let id = this.historyIds.get(history.name)
    if (id === undefined) {
      id = database.historyId(history)
      this.historyIds.set(history.name, id)
    }
    return id
  }

  private historyOf(settings: HistorySettings, id: number, key: string): KeyHistory {
    const cached = this.cache.get(id, key)
    if (cached !== undefined) return cached
    const history = new KeyHistory(settings, id, key, this.options.tileSize)
    this.open().load(history)
    this.cache.put(history)
    return history
  }

  private apply(history: KeyHistory, entries: readonly HistoryEntry[]): void {
    const before = history.bytes
    history.add(entries)
    const grown = history.bytes - before
    if (history.dirtySince === 0) {
      history.dirtySince = this.sequence
      history.dirtyFromByte = this.writtenBytes
      this.dirty.add(history)
      this.dirtyBytes += history.bytes
    } else this.dirtyBytes += grown
    if (grown > 0) this.cache.grew(grown)
  }

  /** The keys that this append packs: at a steady pace, and as many more as keep memory and the journal within their limits. */
  private waitingLongest(entryCount: number): readonly KeyHistory[] {
    const packed: KeyHistory[] = []
    let { dirtyBytes } = this
    this.sincePack += entryCount
    for (const history of this.dirty) {
      const journalBytes = this.writtenBytes - history.dirtyFromByte
      if (this.sincePack < entriesPerPack && dirtyBytes <= this.cacheBytes * mostDirty && journalBytes <= journalLimitBytes) return packed
      this.sincePack = Math.max(0, this.sincePack - entriesPerPack)
      dirtyBytes -= history.bytes
      packed.push(history)
    }
    this.sincePack = 0
    return packed
  }

  /** The first journal row that is still needed when `packed`, the first of the dirty ones, have rows of their own. */
  private neededFrom(packed: readonly KeyHistory[], otherwise: number): number {
    let skip = packed.length
    for (const history of this.dirty) if (skip-- <= 0) return history.dirtySince
    return otherwise
  }

  private markClean(packed: readonly KeyHistory[], rowIds: readonly number[]): void {
    packed.forEach((history, index) => {
      history.rowId = rowIds[index]!
      history.dirtySince = 0
      this.dirtyBytes -= history.bytes
      this.dirty.delete(history)
    })
  }
}
