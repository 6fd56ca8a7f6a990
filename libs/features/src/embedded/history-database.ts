import { randomUUID } from 'node:crypto'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { MeshError } from '@spillway/core'
import type { HistorySettings } from '../store.ts'
import type { KeyHistory } from '../windows/key-history.ts'

// A packed value lies in a table with row ids: there it may fill a page, in one without it would go to overflow pages from a quarter of that.
const schema = `
  CREATE TABLE IF NOT EXISTS feature_histories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value_count INTEGER NOT NULL, retention_ms REAL NOT NULL);
  CREATE TABLE IF NOT EXISTS feature_origins (id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, UNIQUE (topic, partition));
  CREATE TABLE IF NOT EXISTS feature_keys (id INTEGER PRIMARY KEY, history INTEGER NOT NULL, key TEXT NOT NULL, newest_ms REAL NOT NULL, newest_origin INTEGER NOT NULL, packed BLOB NOT NULL, UNIQUE (history, key));
  CREATE TABLE IF NOT EXISTS feature_forgotten (history INTEGER NOT NULL, origin INTEGER NOT NULL, before_ms REAL NOT NULL, PRIMARY KEY (history, origin)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS feature_store (id INTEGER PRIMARY KEY CHECK (id = 1), identity TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS feature_journal (sequence INTEGER PRIMARY KEY, writes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS feature_note (id INTEGER PRIMARY KEY CHECK (id = 1), note TEXT NOT NULL);
`

const largestMs = 8.64e15

/** A key's row without its entries; the partition and the time are those of the newest one. */
export interface StoredKey {
  readonly id: number
  readonly historyId: number
  readonly newestMs: number
  readonly origin: number
}

/** Keys whose newest entry came from that partition and was older were let go. */
export interface Forgotten {
  readonly historyId: number
  readonly origin: number
  readonly beforeMs: number
}

const queries = {
  addHistory:
    'INSERT INTO feature_histories (name, value_count, retention_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET retention_ms = excluded.retention_ms',
  history: 'SELECT id, value_count FROM feature_histories WHERE name = ?',
  settings: 'SELECT name, value_count, retention_ms FROM feature_histories WHERE id = ?',
  origin: 'SELECT id FROM feature_origins WHERE topic = ? AND partition = ?',
  addOrigin: 'INSERT INTO feature_origins (topic, partition) VALUES (?, ?)',
  load: 'SELECT id, packed FROM feature_keys WHERE history = ? AND key = ?',
  insert: 'INSERT INTO feature_keys (newest_ms, newest_origin, packed, history, key) VALUES (?, ?, ?, ?, ?)',
  update: 'UPDATE feature_keys SET newest_ms = ?, newest_origin = ?, packed = ? WHERE id = ?',
  keysAfter: 'SELECT id, history, newest_ms, newest_origin FROM feature_keys WHERE id > ? ORDER BY id LIMIT ?',
  keyOf: 'SELECT key FROM feature_keys WHERE id = ?',
  deleteKey: 'DELETE FROM feature_keys WHERE id = ?',
  forget:
    'INSERT INTO feature_forgotten (history, origin, before_ms) VALUES (?, ?, ?) ON CONFLICT (history, origin) DO UPDATE SET before_ms = max(before_ms, excluded.before_ms)',
  forgotten: 'SELECT history, origin, before_ms FROM feature_forgotten',
  addToJournal: 'INSERT INTO feature_journal (sequence, writes) VALUES (?, ?)',
  forgetJournal: 'DELETE FROM feature_journal WHERE sequence <= ?',
  identity: 'SELECT identity FROM feature_store',
  note: 'SELECT note FROM feature_note',
  setNote: 'INSERT INTO feature_note (id, note) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET note = excluded.note',
  journal: 'SELECT sequence, writes FROM feature_journal ORDER BY sequence',
} as const

const wholeTransaction = ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK'] as const
const partTransaction = ['SAVEPOINT part', 'RELEASE part', 'ROLLBACK TO part; RELEASE part'] as const

/** The tables; synchronous, every method one short turn. A commit is with the operating system, so it survives the process; on the bus's file the bus's next commit makes it survive more. */
export class HistoryDatabase {
  /** Made with the file. */
  readonly identity: string
  private readonly database: DatabaseSync
  /** Whether one transaction lasts from one `commit` to the next, each `transaction` being a part of it. */
  private readonly held: boolean
  private readonly statements: Readonly<Record<keyof typeof queries, StatementSync>>
  private readonly origins = new Map<string, Map<number, number>>()

  /** @throws MeshError FAILED_PRECONDITION where the file cannot be opened, or another process has it */
  constructor(path: string, exclusive: boolean, held: boolean) {
    this.held = held
    let database: DatabaseSync | undefined
    try {
      // Other connections of this process (the bus's) may be writing: wait for them.
      database = new DatabaseSync(path, { timeout: exclusive ? 0 : 5000 })
      if (exclusive) database.exec('PRAGMA locking_mode = EXCLUSIVE')
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000')
      database.exec(schema)
      // A write takes the lock that an exclusive connection then keeps.
      if (exclusive) database.exec('BEGIN IMMEDIATE; COMMIT')
      this.database = database
      this.statements = Object.fromEntries(
        Object.entries(queries).map(([name, sql]) => [name, this.database.prepare(sql)]),
      ) as unknown as typeof this.statements
      database.prepare('INSERT INTO feature_store (id, identity) VALUES (1, ?) ON CONFLICT DO NOTHING').run(randomUUID())
      this.identity = this.statements.identity.get()!['identity'] as string
      // A commit of these is asked for by who has just written to the disk what goes with it.
      if (held) database.exec('PRAGMA synchronous = FULL; BEGIN IMMEDIATE')
    } catch (thrown) {
      database?.close()
      throw new MeshError(
        'FAILED_PRECONDITION',
        `feature store ${path}: ${(thrown as Error).message}${/locked/.test(String(thrown)) ? ' (another process has it)' : ''}`,
        {
          cause: thrown,
        },
      )
    }
  }

  /** All or none of what `work` writes. @throws MeshError UNAVAILABLE */
  transaction(work: () => void): void {
    const [begin, commit, undo] = this.held ? partTransaction : wholeTransaction
    // SQLite gives a whole transaction up on some errors (https://www.sqlite.org/lang_transaction.html, section 3): what it held is gone.
    if (this.held && !this.database.isTransaction)
      throw unavailable(new Error('what was held for the next commit is lost: start the run again from its last checkpoint'))
    try {
      this.database.exec(begin)
      work()
      this.database.exec(commit)
    } catch (thrown) {
      if (this.database.isTransaction) this.database.exec(undo)
      throw unavailable(thrown)
    }
  }

  /** Makes all that was written since the last commit survive, and the note with it, or none. For a database whose commits are held. */
  commit(note: string): void {
    reading(() => {
      this.statements.setNote.run(note)
      this.database.exec('COMMIT')
      this.database.exec('BEGIN IMMEDIATE')
    })
  }

  /** The last commit's; undefined before the first. */
  note(): string | undefined {
    return reading(() => this.statements.note.get())?.['note'] as string | undefined
  }

  /** @throws MeshError FAILED_PRECONDITION where it is stored with another count of values */
  historyId({ name, valueCount, retentionMs }: HistorySettings): number {
    const row = reading(() => {
      this.statements.addHistory.run(name, valueCount, retentionMs)
      return this.statements.history.get(name)!
    })
    if (row['value_count'] !== valueCount)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `history ${name} is stored with ${String(row['value_count'])} values an entry, not ${valueCount}: give it another name`,
      )
    return row['id'] as number
  }

  settings(historyId: number): HistorySettings {
    const row = reading(() => this.statements.settings.get(historyId))
    if (row === undefined) throw new MeshError('DATA_LOSS', `the journal names history ${historyId}, which the feature store does not know`)
    return { name: row['name'] as string, valueCount: row['value_count'] as number, retentionMs: row['retention_ms'] as number }
  }

  origin(topic: string, partition: number): number {
    let partitions = this.origins.get(topic)
    if (partitions === undefined) {
      partitions = new Map()
      this.origins.set(topic, partitions)
    }
    let id = partitions.get(partition)
    if (id === undefined) {
      id = reading(() => {
        const stored = this.statements.origin.get(topic, partition)
        return stored === undefined ? Number(this.statements.addOrigin.run(topic, partition).lastInsertRowid) : (stored['id'] as number)
      })
      partitions.set(partition, id)
    }
    return id
  }

  /** Fills in what is stored of the key; leaves an unknown one empty. */
  load(history: KeyHistory): void {
    const row = reading(() => this.statements.load.get(history.historyId, history.key))
    if (row === undefined) return
    history.rowId = row['id'] as number
    history.unpack(row['packed'] as Uint8Array)
  }

  /** Returns the key's row id: to be kept only if the transaction commits. */
  put(history: KeyHistory): number {
    const packed = history.pack()
    const newest = history.count - 1
    const [newestMs, origin] = newest < 0 ? [-largestMs, 0] : [history.times[newest]!, history.origins[newest]!]
    const { insert, update } = this.statements
    if (history.rowId === 0) return Number(insert.run(newestMs, origin, packed, history.historyId, history.key).lastInsertRowid)
    update.run(newestMs, origin, packed, history.rowId)
    return history.rowId
  }

  /** Rows of keys in the order of their ids, from the one behind `id` on. */
  keysAfter(id: number, limit: number): readonly StoredKey[] {
    return this.statements.keysAfter.all(id, limit).map((row) => ({
      id: row['id'] as number,
      historyId: row['history'] as number,
      newestMs: row['newest_ms'] as number,
      origin: row['newest_origin'] as number,
    }))
  }

  keyOf(id: number): string {
    return this.statements.keyOf.get(id)!['key'] as string
  }

  forgetKey(id: number, { historyId, origin, beforeMs }: Forgotten): void {
    this.statements.deleteKey.run(id)
    this.statements.forget.run(historyId, origin, beforeMs)
  }

  forgotten(): readonly Forgotten[] {
    return reading(() => this.statements.forgotten.all()).map((row) => ({
      historyId: row['history'] as number,
      origin: row['origin'] as number,
      beforeMs: row['before_ms'] as number,
    }))
  }

  addToJournal(sequence: number, writes: Uint8Array): void {
    this.statements.addToJournal.run(sequence, writes)
  }

  /** Rows up to and including `sequence`. */
  forgetJournal(sequence: number): void {
    this.statements.forgetJournal.run(sequence)
  }

  *journal(): Generator<{ readonly sequence: number; readonly bytes: Uint8Array }> {
    for (const row of this.statements.journal.iterate()) yield { sequence: row['sequence'] as number, bytes: row['writes'] as Uint8Array }
  }

  close(): void {
    this.database.close()
  }
}

/** A disk that is full or failing is the store being away: the slice must wait, not become dead letters. */
function reading<T>(work: () => T): T {
  try {
    return work()
  } catch (thrown) {
    throw unavailable(thrown)
  }
}

function unavailable(thrown: unknown): MeshError {
  if (thrown instanceof MeshError) return thrown
  return new MeshError('UNAVAILABLE', `feature store: ${(thrown as Error).message}`, { cause: thrown, isOutage: true })
}
