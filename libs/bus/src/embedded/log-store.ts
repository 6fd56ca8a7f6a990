import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { MeshError } from '@spillway/core'
import type { Records, TopicSettings } from '../port.ts'
import { sliceRecords } from '../records.ts'
import { type Chunk, chunkEnd, decodeChunk, encodeChunk, runningSizes } from './chunk.ts'
import { describeHolder, type FileLock, lockFile } from './file-lock.ts'

/** A partition, as last committed. */
export interface Log {
  readonly id: number
  readonly topic: string
  readonly partition: number
  readonly retentionMs: number | undefined
  readonly retentionBytes: number | undefined
  /** Earliest retained offset. */
  earliest: number
  /** Offset that the next record will get. */
  end: number
  /** Keys, values and headers of all chunks that are stored. */
  bytes: number
  /** Called, once each, when records were appended. */
  readonly waiting: Set<() => void>
}

/** A topic's partitions, by number. */
export interface Topic {
  readonly name: string
  readonly logs: readonly Log[]
}

export interface StoredPosition {
  readonly group: string
  readonly log: Log
  readonly next: number
  /** What it was committed with. */
  readonly stamp: string | undefined
  readonly note?: string | undefined
}

/**
 * `power-loss`: a commit is on the disk before it is acknowledged (synchronous=FULL).
 * `process-kill`: a commit is with the operating system; the last ones may be gone, whole, after a power cut (synchronous=NORMAL).
 */
export type Durability = 'power-loss' | 'process-kill'

// Chunks are found by their index and lie in the table in order of arrival, so that appending is sequential whatever the partition.
const schema = `
  CREATE TABLE IF NOT EXISTS bus_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS bus_topics (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, retention_ms REAL, retention_bytes REAL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS bus_partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    earliest INTEGER NOT NULL, "end" INTEGER NOT NULL, bytes INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS bus_chunks (
    log INTEGER NOT NULL, base INTEGER NOT NULL, count INTEGER NOT NULL, bytes INTEGER NOT NULL, accepted_ms REAL NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (log, base));
  CREATE TABLE IF NOT EXISTS bus_positions (
    consumer_group TEXT NOT NULL, log INTEGER NOT NULL, next INTEGER NOT NULL, stamp TEXT, note TEXT, PRIMARY KEY (consumer_group, log)) WITHOUT ROWID;
  INSERT OR IGNORE INTO bus_meta VALUES ('format', '1');
`

/** The database: synchronous, one caller at a time; every method is one short turn. */
export class LogStore {
  readonly topics: Map<string, Topic> = new Map()
  private readonly database: DatabaseSync
  private readonly lock: FileLock | undefined
  private readonly statements: Readonly<Record<keyof typeof queries, StatementSync>>

  /** @throws MeshError FAILED_PRECONDITION where another holds the file, or the file is of another format. */
  constructor(path: string, durability: Durability, nowMs: number) {
    if (path !== ':memory:') {
      mkdirSync(dirname(path), { recursive: true })
      this.lock = lockFile(path)
    }
    let database: DatabaseSync | undefined
    try {
      // Other connections of this process (the feature store's) may be writing: wait for them.
      database = new DatabaseSync(path, { timeout: 5000 })
      // Larger pages carry chunks better, but cost the feature store's small writes more; a checkpoint holds the event loop, so it stays at 8 MB.
      database.exec(`PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 1000`)
      database.exec(`PRAGMA synchronous = ${durability === 'power-loss' ? 'FULL' : 'NORMAL'}`)
      database.exec(schema)
      checkFormat(path, database)
      addColumns(database)
      database.prepare("INSERT OR REPLACE INTO bus_meta VALUES ('holder', ?)").run(describeHolder(nowMs))
      this.database = database
      this.statements = Object.fromEntries(
        Object.entries(queries).map(([name, sql]) => [name, this.database.prepare(sql)]),
      ) as unknown as typeof this.statements
      this.loadTopics()
    } catch (thrown) {
      database?.close()
      this.lock?.release()
      throw asStoreError(thrown, path)
    }
  }

  private loadTopics(): void {
    for (const row of this.statements.topics.all()) {
      const settings = {
        name: row['name'] as string,
        partitions: row['partitions'] as number,
        ...(row['retention_ms'] !== null && { retentionMs: row['retention_ms'] as number }),
        ...(row['retention_bytes'] !== null && { retentionBytes: row['retention_bytes'] as number }),
      }
      const logs = this.statements.partitions.all(settings.name).map((stored) => {
        const { id, partition, earliest, end, bytes } = stored as unknown as Log
        return newLog(settings, id, partition, { earliest, end, bytes })
      })
      this.topics.set(settings.name, { name: settings.name, logs })
    }
  }

  /** All or none of what `work` writes. @throws MeshError RESOURCE_EXHAUSTED where the disk is full, else UNAVAILABLE; what `work` throws, as it is */
  transaction<T>(work: () => T): T {
    try {
      this.database.exec('BEGIN IMMEDIATE')
      const result = work()
      this.database.exec('COMMIT')
      return result
    } catch (thrown) {
      if (this.database.isTransaction) this.database.exec('ROLLBACK')
      throw asStoreError(thrown)
    }
  }

  createTopics(topics: readonly TopicSettings[]): void {
    const created = this.transaction(() =>
      topics.map((settings): Topic => {
        const { name, partitions, retentionMs = null, retentionBytes = null } = settings
        this.statements.addTopic.run(name, partitions, retentionMs, retentionBytes)
        const logs = Array.from({ length: partitions }, (_, partition) => {
          const id = Number(this.statements.addPartition.run(name, partition).lastInsertRowid)
          return newLog(settings, id, partition, { earliest: 0, end: 0, bytes: 0 })
        })
        return { name, logs }
      }),
    )
    for (const topic of created) this.topics.set(topic.name, topic)
  }

  /** Within a transaction; the caller puts `end` and `bytes` into the log once that is committed. */
  append(log: Log, records: Records, acceptedMs: number): { readonly end: number; readonly bytes: number } {
    const sizes = runningSizes(records)
    for (let start = 0; start < records.count;) {
      const end = chunkEnd(sizes, start)
      const data = encodeChunk(sliceRecords(records, start, end), sizes.subarray(start, end + 1), acceptedMs)
      this.statements.addChunk.run(log.id, log.end + start, end - start, sizes[end]! - sizes[start]!, acceptedMs, data)
      start = end
    }
    const grown = { end: log.end + records.count, bytes: log.bytes + sizes.at(-1)! }
    this.statements.setEnd.run(grown.end, grown.bytes, log.id)
    return grown
  }

  /** The chunk that holds `offset`, and those after it. The iteration must end within the turn. */
  *chunksFrom(log: Log, offset: number): Generator<Chunk> {
    for (const row of this.statements.chunks.iterate(log.id, log.id, offset)) {
      yield decodeChunk(row['base'] as number, row['data'] as Uint8Array)
    }
  }

  /** The oldest chunks, without their data: what retention decides on. */
  oldestChunks(log: Log, limit: number): readonly { readonly end: number; readonly bytes: number; readonly acceptedMs: number }[] {
    return this.statements.oldest.all(log.id, limit) as unknown as ReturnType<LogStore['oldestChunks']>
  }

  /** Makes all before `offset` unavailable; chunks that lie wholly before it are deleted. */
  dropBefore(log: Log, offset: number): void {
    const earliest = Math.min(Math.max(offset, log.earliest), log.end)
    const bytes = this.transaction(() => {
      const dropped = this.statements.bytesBefore.get(log.id, earliest, earliest)?.['bytes'] as number
      this.statements.deleteBefore.run(log.id, earliest, earliest)
      this.statements.setEarliest.run(earliest, log.bytes - dropped, log.id)
      return log.bytes - dropped
    })
    Object.assign(log, { earliest, bytes })
  }

  position(group: string, log: Log): Pick<StoredPosition, 'next' | 'stamp' | 'note'> | undefined {
    const row = this.statements.position.get(group, log.id)
    const { next, stamp, note } = row ?? {}
    return row && { next: next as number, stamp: (stamp as string | null) ?? undefined, note: (note as string | null) ?? undefined }
  }

  setPosition({ group, log, next, stamp, note }: StoredPosition): void {
    this.statements.setPosition.run(group, log.id, next, stamp ?? null, note ?? null)
  }

  /** Of all groups. */
  positions(): readonly StoredPosition[] {
    const logs = new Map([...this.topics.values()].flatMap((topic) => topic.logs).map((log) => [log.id, log]))
    return this.statements.positions.all().map((row) => ({
      group: row['consumer_group'] as string,
      log: logs.get(row['log'] as number)!,
      next: row['next'] as number,
      stamp: (row['stamp'] as string | null) ?? undefined,
    }))
  }

  close(): void {
    this.database.exec("UPDATE bus_meta SET value = '' WHERE name = 'holder'")
    this.database.close()
    this.lock?.release()
  }
}

const queries = {
  topics: 'SELECT * FROM bus_topics ORDER BY name',
  partitions: 'SELECT * FROM bus_partitions WHERE topic = ? ORDER BY partition',
  addTopic: 'INSERT INTO bus_topics VALUES (?, ?, ?, ?)',
  addPartition: 'INSERT INTO bus_partitions (topic, partition, earliest, "end", bytes) VALUES (?, ?, 0, 0, 0)',
  addChunk: 'INSERT INTO bus_chunks VALUES (?, ?, ?, ?, ?, ?)',
  setEnd: 'UPDATE bus_partitions SET "end" = ?, bytes = ? WHERE id = ?',
  chunks: `SELECT base, data FROM bus_chunks WHERE log = ?
    AND base >= coalesce((SELECT max(base) FROM bus_chunks WHERE log = ? AND base <= ?), 0) ORDER BY base`,
  oldest: 'SELECT base + count AS "end", bytes, accepted_ms AS acceptedMs FROM bus_chunks WHERE log = ? ORDER BY base LIMIT ?',
  bytesBefore: 'SELECT coalesce(sum(bytes), 0) AS bytes FROM bus_chunks WHERE log = ? AND base < ? AND base + count <= ?',
  deleteBefore: 'DELETE FROM bus_chunks WHERE log = ? AND base < ? AND base + count <= ?',
  setEarliest: 'UPDATE bus_partitions SET earliest = ?, bytes = ? WHERE id = ?',
  position: 'SELECT next, stamp, note FROM bus_positions WHERE consumer_group = ? AND log = ?',
  setPosition: 'INSERT OR REPLACE INTO bus_positions (consumer_group, log, next, stamp, note) VALUES (?, ?, ?, ?, ?)',
  positions: 'SELECT * FROM bus_positions ORDER BY consumer_group, log',
} as const

function newLog(settings: TopicSettings, id: number, partition: number, state: Pick<Log, 'earliest' | 'end' | 'bytes'>): Log {
  const { name, retentionMs, retentionBytes } = settings
  return { id, topic: name, partition, retentionMs, retentionBytes, ...state, waiting: new Set() }
}

function checkFormat(path: string, database: DatabaseSync): void {
  const found = database.prepare("SELECT value FROM bus_meta WHERE name = 'format'").get()?.['value']
  if (found !== '1')
    throw new MeshError('FAILED_PRECONDITION', `${path} has bus format ${String(found)}, expected 1: start with a new file`)
}

/** Files of before positions had stamps and notes. */
function addColumns(database: DatabaseSync): void {
  const columns = database.prepare("SELECT name FROM pragma_table_info('bus_positions')").all()
  for (const added of ['stamp', 'note'])
    if (!columns.some((column) => column['name'] === added)) database.exec(`ALTER TABLE bus_positions ADD COLUMN ${added} TEXT`)
}

/** https://www.sqlite.org/rescode.html: 13 is FULL, 26 NOTADB, 11 CORRUPT; the low byte is the primary code. */
function asStoreError(thrown: unknown, path?: string): MeshError {
  if (thrown instanceof MeshError || !(thrown instanceof Error) || !('errcode' in thrown)) return MeshError.from(thrown, 'INTERNAL')
  const code = Number(thrown.errcode) & 0xff
  const where = path === undefined ? 'the bus file' : path
  if (code === 13) return new MeshError('RESOURCE_EXHAUSTED', `${where}: the disk is full`, { cause: thrown })
  if (code === 26 || code === 11)
    return new MeshError('FAILED_PRECONDITION', `${where} is no intact bus file: ${thrown.message}`, { cause: thrown })
  return new MeshError('UNAVAILABLE', `${where}: ${thrown.message}`, { cause: thrown })
}
