import { statSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { MeshError } from '@spillway/core'
import { listed } from '../refusal.ts'
import { keySeparator } from './key-parts.ts'
import { rowsOf } from './found-rows.ts'
import type { PlannedLookup } from './plan.ts'
import { readValue, WrongValue } from './raw-value.ts'
import type { LookupLogger, LookupRows, LookupSource } from './source.ts'
import { UniqueKeys } from './unique-keys.ts'
import { ValueColumns } from './value-columns.ts'

export interface SqliteLookupOptions {
  readonly lookup: PlannedLookup
  /** Absolute. */
  readonly path: string
  readonly table: string
  readonly logger?: LookupLogger | undefined
}

/** How long a read may wait for the job that writes, ms: it holds the whole process up, so a slice rather waits and tries again. */
const busyTimeoutMs = 100

type RowValue = string | number | bigint | Uint8Array | null

/** A SQLite table that another job writes, read as it is at each slice. A file that is replaced is opened anew; where it is bad that is logged, and the old one stays. */
export class SqliteLookup implements LookupSource {
  private readonly options: SqliteLookupOptions
  private open: OpenTable | undefined
  /** What was last wrong with a file that was replaced. */
  private complaint = ''

  constructor(options: SqliteLookupOptions) {
    this.options = options
  }

  /** @throws MeshError INVALID_ARGUMENT whose `field` is the path within the section */
  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const open = new OpenTable(this.options)
    try {
      open.check()
    } catch (thrown) {
      open.close()
      throw thrown
    }
    this.open = open
  }

  drain(): Promise<void> {
    this.open?.close()
    this.open = undefined
    return Promise.resolve()
  }

  read(keys: readonly string[], timesMs: Float64Array): Promise<LookupRows> {
    return new Promise((resolve) => resolve(this.current().read(keys, timesMs)))
  }

  private current(): OpenTable {
    const { open } = this
    if (open === undefined) throw new MeshError('INTERNAL', `lookup "${this.options.lookup.title}" was not started`)
    if (!open.isReplaced()) return open
    const fresh = this.replacement()
    if (fresh === undefined) return open
    this.open = fresh
    open.close()
    return fresh
  }

  private replacement(): OpenTable | undefined {
    try {
      const fresh = new OpenTable(this.options)
      this.complaint = ''
      return fresh
    } catch (thrown) {
      // Once for each thing that is wrong, not at every slice.
      const { lookup, path, logger } = this.options
      const { message } = thrown as Error
      if (message !== this.complaint)
        logger?.error({ err: thrown, lookup: lookup.title, path }, 'a table file that was replaced cannot be used: the old table stays')
      this.complaint = message
      return undefined
    }
  }
}

class OpenTable {
  private readonly options: SqliteLookupOptions
  private readonly database: DatabaseSync
  private readonly query: StatementSync
  private readonly inode: bigint
  private readonly columns: readonly string[]
  /** One a key field: whether the table holds integers. */
  private readonly integers: readonly boolean[]

  constructor(options: SqliteLookupOptions) {
    this.options = options
    const { lookup, path, table } = options
    const { keyFields, values, timeColumn, versions } = lookup
    this.columns = [...values.map(({ name }) => name), ...(timeColumn === undefined ? [] : [timeColumn])]
    this.inode = inodeOf(path) ?? this.refuse('there is no such file')
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(path, { readOnly: true, timeout: busyTimeoutMs })
      this.database = database
      this.checkColumns()
      this.integers = keyFields.map((field) => this.one(`SELECT typeof(${quoted(field)}) FROM ${quoted(table)} LIMIT 1`)?.[0] === 'integer')
      const keyIs = keyFields.map((field) => `${quoted(field)} = ?`).join(' AND ')
      const from = `SELECT ${this.columns.map(quoted).join(', ')} FROM ${quoted(table)} WHERE ${keyIs}`
      const time = versions ? ` AND ${quoted(timeColumn!)} <= ? ORDER BY ${quoted(timeColumn!)} DESC` : ''
      this.query = database.prepare(`${from}${time} LIMIT ${versions ? 1 : 2}`)
      this.query.setReadBigInts(true)
      this.query.setReturnArrays(true)
    } catch (thrown) {
      database?.close()
      throw thrown instanceof MeshError ? thrown : this.failed(thrown)
    }
  }

  close(): void {
    this.database.close()
  }

  isReplaced(): boolean {
    const inode = inodeOf(this.options.path)
    return inode !== undefined && inode !== this.inode
  }

  private refuse(message: string, part = 'table'): never {
    const { lookup, path, table } = this.options
    throw new MeshError('INVALID_ARGUMENT', `${path}#${table}: ${message}`, { field: `lookups.${lookup.title}.${part}` })
  }

  /** SQLITE_BUSY and SQLITE_LOCKED pass; anything else does not. */
  private failed(thrown: unknown): MeshError {
    const { path, table, lookup } = this.options
    const { errcode = 0, message } = thrown as Error & { errcode?: number }
    const code = [5, 6].includes(errcode & 0xff) ? 'UNAVAILABLE' : 'FAILED_PRECONDITION'
    return new MeshError(code, `${path}#${table} cannot be read: ${message}`, {
      field: `lookups.${lookup.title}.table`,
      cause: thrown,
      isOutage: code === 'UNAVAILABLE',
    })
  }

  private one(sql: string): readonly RowValue[] | undefined {
    const statement = this.database.prepare(sql)
    statement.setReadBigInts(true)
    statement.setReturnArrays(true)
    return statement.get() as unknown as readonly RowValue[] | undefined
  }

  private checkColumns(): void {
    const { table, lookup } = this.options
    const found = this.database
      .prepare('SELECT name FROM pragma_table_info(?)')
      .all(table)
      .map(({ name }) => name as string)
    if (found.length === 0) {
      const tables = this.database.prepare("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name").all()
      this.refuse(`there is no such table: choose among ${listed(tables.map(({ name }) => name as string))}`)
    }
    for (const name of [...lookup.keyFields, ...this.columns])
      if (!found.includes(name)) this.refuse(`there is no column "${name}": the table has ${listed(found)}`)
  }

  /** What must hold of all its rows. @throws MeshError INVALID_ARGUMENT naming the key of a row that is wrong */
  check(): void {
    try {
      this.checkRows()
    } catch (thrown) {
      throw thrown instanceof MeshError ? thrown : this.failed(thrown)
    }
  }

  private checkRows(): void {
    const { lookup, table, logger, path } = this.options
    const { keyFields, values, timeColumn, versions } = lookup
    const key = keyFields.map(quoted).join(', ')
    const same = versions ? `${key}, ${quoted(timeColumn!)}` : key
    const twice = this.one(`SELECT ${same}, count(*) FROM ${quoted(table)} GROUP BY ${same} HAVING count(*) > 1 LIMIT 1`)
    if (twice !== undefined)
      this.refuse(
        `${[...keyFields, ...(versions ? [timeColumn!] : [])].join(', ')} ${twice.slice(0, -1).join(', ')} is there ${String(twice.at(-1))} times: give one row a key${versions ? ' and time' : ''}`,
      )
    if (versions) {
      const text = this.one(`SELECT ${key} FROM ${quoted(table)} WHERE typeof(${quoted(timeColumn!)}) <> 'integer' LIMIT 1`)
      if (text !== undefined) this.refuse(`${timeColumn} of ${text.join(', ')} is no integer: versions of a table go by epoch milliseconds`)
    }
    const statement = this.database.prepare(`SELECT ${[...keyFields, ...this.columns].map(quoted).join(', ')} FROM ${quoted(table)}`)
    statement.setReadBigInts(true)
    statement.setReturnArrays(true)
    const types = [...values.map(({ type }) => type), ...(timeColumn === undefined ? [] : ['timestamp' as const])]
    for (const row of statement.iterate() as unknown as Iterable<readonly RowValue[]>) {
      for (const [index, type] of types.entries()) {
        const value = readValue(row[keyFields.length + index], type)
        if (value instanceof WrongValue)
          this.refuse(`${this.columns[index]} of ${row.slice(0, keyFields.length).join(', ')} ${value.message}`)
      }
    }
    const plan = this.database.prepare(
      `EXPLAIN QUERY PLAN SELECT 1 FROM ${quoted(table)} WHERE ${keyFields.map((field) => `${quoted(field)} = ?`).join(' AND ')}`,
    )
    if (plan.all(...keyFields.map(() => 0)).some(({ detail }) => String(detail).startsWith('SCAN')))
      logger?.warn(
        { lookup: lookup.title, path, table },
        `the table has no index on ${keyFields.join(', ')}: every look-up reads all of it`,
      )
  }

  read(keys: readonly string[], timesMs: Float64Array): LookupRows {
    const { lookup } = this.options
    // With versions each row has a time of its own, else each key is asked for once.
    const unique = new UniqueKeys(keys, lookup.versions ? timesMs : undefined)
    const columns = new ValueColumns(lookup.values, lookup.timeColumn !== undefined, unique.count)
    const wrong = new Map<number, MeshError>()
    try {
      // One view of the table for the slice, and its locks are taken once.
      this.database.exec('BEGIN')
      try {
        for (const [index, row] of unique.firstRows.entries()) {
          const message = this.readOne(keys[row]!, timesMs[row]!, index, columns)
          if (message !== undefined)
            wrong.set(index, new MeshError('FAILED_PRECONDITION', message, { field: `features.lookups.${lookup.title}` }))
        }
      } finally {
        this.database.exec('COMMIT')
      }
    } catch (thrown) {
      throw this.failed(thrown)
    }
    return rowsOf(unique, columns, wrong)
  }

  /** @returns what is wrong */
  private readOne(key: string, timeMs: number, index: number, columns: ValueColumns): string | undefined {
    const { lookup, path, table } = this.options
    const bound = this.boundKey(key)
    if (bound === undefined) return undefined
    const rows = this.query.all(...bound, ...(lookup.versions ? [Math.floor(timeMs)] : [])) as unknown as readonly (readonly RowValue[])[]
    const name = (): string => `${path}#${table}, ${lookup.keyFields.join(', ')} ${bound.join(', ')}`
    if (rows.length > 1) return `${name()}: there are several rows: give one row a key`
    const wrong = rows.length === 0 ? undefined : columns.set(index, rows[0]!, lookup.timeColumn)
    return wrong === undefined ? undefined : `${name()}: ${wrong}`
  }

  /** As the table holds keys; undefined where the table cannot hold such a key. */
  private boundKey(key: string): (string | bigint)[] | undefined {
    const parts = key.split(keySeparator)
    const bound: (string | bigint)[] = []
    for (const [index, part] of parts.entries()) {
      if (this.integers[index] !== true) bound.push(part)
      else if (/^-?\d{1,19}$/.test(part) && BigInt.asIntN(64, BigInt(part)) === BigInt(part)) bound.push(BigInt(part))
      else return undefined
    }
    return bound
  }
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function inodeOf(path: string): bigint | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false })?.ino
}
