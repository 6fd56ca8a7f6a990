import { hostname } from 'node:os'
import { DatabaseSync } from 'node:sqlite'
import { MeshError } from '@spillway/core'

/** One owner of a database file at a time. */
export interface FileLock {
  release(): void
}

/** Who holds the file, for the message that another one gets. */
export function describeHolder(startedMs: number): string {
  return `process ${process.pid} on ${hostname()}, since ${new Date(startedMs).toISOString()}`
}

/**
 * Takes `<path>.lock`, a side database in an exclusive transaction: the operating system's lock, gone with the process, however it ends.
 * The side file is never read by any other means, since closing any descriptor of it would drop the lock (POSIX).
 * @throws MeshError FAILED_PRECONDITION where another bus, of this process or another, holds it
 */
export function lockFile(path: string): FileLock {
  const lock = new DatabaseSync(`${path}.lock`)
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (thrown) {
    lock.close()
    if ((thrown as { errcode?: number }).errcode !== sqliteBusy) throw thrown
    throw new MeshError('FAILED_PRECONDITION', `${path} is in use by ${readHolder(path)}: stop it, or give this one a file of its own`, {
      cause: thrown,
    })
  }
  return { release: () => lock.close() }
}

/** https://www.sqlite.org/rescode.html#busy */
const sqliteBusy = 5

function readHolder(path: string): string {
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: 1000 })
    const row = database.prepare("SELECT value FROM bus_meta WHERE name = 'holder'").get()
    return typeof row?.['value'] === 'string' && row['value'] !== '' ? row['value'] : 'another process'
  } catch {
    // The holder may be about to create the file: who it is only makes the message better.
    return 'another process'
  } finally {
    database?.close()
  }
}
