import type { Slice, StartPosition, Subscription } from '../port.ts'
import type { Engine } from './engine.ts'
import { LogReader } from './log-reader.ts'
import type { Log } from './log-store.ts'
import { appended, turn } from './waiting.ts'

const maxSliceBytes = 1 << 20

/** A slice of each partition in turn, for as long as the signal is silent. */
export async function* subscribed(engine: Engine, subscription: Subscription, signal: AbortSignal): AsyncGenerator<Slice, void, undefined> {
  const { logs } = engine.router.topic(subscription.topic)
  const cursors = logs.map((log) => ({ log, reader: new LogReader(engine.store, log), next: startOffset(log, subscription.from) }))
  while (!signal.aborted) {
    let read = false
    for (const cursor of cursors) {
      cursor.next = Math.max(cursor.next, cursor.log.earliest)
      if (signal.aborted || cursor.next >= cursor.log.end) continue
      const slice = cursor.reader.read(cursor.next, subscription.maxSliceRecords, maxSliceBytes)
      if (slice === undefined) continue
      read = true
      cursor.next += slice.records.count
      yield slice
    }
    if (read) await turn()
    else await appended(logs, signal)
  }
}

function startOffset(log: Log, from: StartPosition): number {
  if (from === 'latest') return log.end
  return from === 'earliest' ? log.earliest : Number(from.get(log.partition) ?? log.earliest)
}
