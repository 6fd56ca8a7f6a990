import type { Bus } from '@spillway/bus'
import { bytesAt, MeshError } from '@spillway/core'
import type { Topic } from './play-list.ts'
import type { Tail } from './resume.ts'

const quietMs = 15_000

/** The last `depth` records of each partition of `name`, as of now. @throws MeshError FAILED_PRECONDITION where the topic does not exist. */
export async function readTails(bus: Bus, topic: Topic, name: string, depth: number, signal: AbortSignal): Promise<Tail[]> {
  if ((await bus.topics.describe(name)) === undefined)
    throw new MeshError('FAILED_PRECONDITION', `there is no topic "${name}" to play into: start the pipeline first, or create it`)
  const ends = await bus.topics.offsets(name)
  const from = new Map<number, bigint>()
  const open = new Map<number, bigint>()
  const values = new Map<number, Uint8Array[]>()
  for (const { partition, earliest, end } of ends) {
    const start = end - BigInt(depth) > earliest ? end - BigInt(depth) : earliest
    from.set(partition, start)
    values.set(partition, [])
    if (start < end) open.set(partition, end)
  }
  const stop = new AbortController()
  const quiet = AbortSignal.timeout(quietMs)
  const subscription = { topic: name, from, maxSliceRecords: 1000, signal: AbortSignal.any([signal, stop.signal, quiet]) }
  if (open.size > 0) {
    for await (const slice of bus.subscribe(subscription)) {
      const end = open.get(slice.partition)
      if (end === undefined) continue
      for (let row = 0; row < slice.records.count; row++)
        if (slice.offsets[row]! < end) values.get(slice.partition)!.push(bytesAt(slice.records.values, row).slice())
      if (slice.offsets[slice.records.count - 1]! >= end - 1n) open.delete(slice.partition)
      if (open.size === 0) break
    }
  }
  stop.abort()
  signal.throwIfAborted()
  if (open.size > 0)
    throw new MeshError('UNAVAILABLE', `the end of topic "${name}" could not be read within ${quietMs / 1000} s: is the bus up?`)
  return ends.map(({ partition, earliest }) => ({
    topic,
    values: values.get(partition)!,
    whole: (from.get(partition) ?? earliest) === earliest,
  }))
}
