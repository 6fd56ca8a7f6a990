import { MeshError } from '@spillway/core'
import type { Slice, StartPosition, Subscription } from '../port.ts'
import type { Engine } from './engine.ts'
import { LogReader } from './log-reader.ts'
import type { Log } from './log-store.ts'
import { appended, turn } from './waiting.ts'

const maxSliceBytes = 1 << 20

interface Cursor {
  readonly log: Log
  readonly reader: LogReader
  next: number
  /** First offset that is not wanted. */
  readonly end: number
}

/** A slice of each partition in turn, until the signal fires or each has come to its end. */
export async function* subscribed(engine: Engine, subscription: Subscription, signal: AbortSignal): AsyncGenerator<Slice, void, undefined> {
  const cursors = openCursors(engine, subscription)
  while (!signal.aborted) {
    let read = false
    for (const cursor of cursors) {
      skipDropped(cursor, subscription)
      if (signal.aborted || cursor.next >= Math.min(cursor.log.end, cursor.end)) continue
      const slice = cursor.reader.read(cursor.next, Math.min(subscription.maxSliceRecords, cursor.end - cursor.next), maxSliceBytes)
      if (slice === undefined) continue
      read = true
      cursor.next += slice.records.count
      yield slice
    }
    const open = cursors.filter((cursor) => cursor.next < cursor.end)
    if (open.length === 0) return
    if (read) await turn()
    else
      await appended(
        open.map((cursor) => cursor.log),
        signal,
      )
  }
}

function openCursors(engine: Engine, { topic, from, until }: Subscription): readonly Cursor[] {
  const { logs } = engine.router.topic(topic)
  for (const partition of until?.keys() ?? [])
    if (logs[partition] === undefined)
      throw new MeshError('INVALID_ARGUMENT', `topic "${topic}" has no partition ${partition}, expected 0 to ${logs.length - 1}`, {
        field: 'until',
      })
  const wanted = logs.filter((log) => until === undefined || until.has(log.partition))
  return wanted.map((log) => {
    const end = until?.get(log.partition)
    return { log, reader: new LogReader(engine.store, log), next: startOffset(log, from), end: end === undefined ? Infinity : Number(end) }
  })
}

function skipDropped(cursor: Cursor, { complete = false }: Subscription): void {
  const { topic, partition, earliest } = cursor.log
  if (cursor.next >= Math.min(earliest, cursor.end)) return
  if (complete)
    throw new MeshError(
      'DATA_LOSS',
      `"${topic}"/${partition}: records from offset ${cursor.next} to ${earliest - 1} are no longer retained`,
    )
  cursor.next = earliest
}

function startOffset(log: Log, from: StartPosition): number {
  if (from === 'latest') return log.end
  return from === 'earliest' ? log.earliest : Number(from.get(log.partition) ?? log.earliest)
}
