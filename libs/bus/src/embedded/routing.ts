import { MeshError } from '@spillway/core'
import type { Write } from '../port.ts'
import { checkRecords, choosePartitions, type RoundRobin, takeRecords } from '../records.ts'
import type { Append } from './committer.ts'
import type { LogStore, Topic } from './log-store.ts'

/** An append, and which of the write's records it holds: all where absent. */
export interface Routed extends Append {
  readonly indices?: readonly number[]
}

/** Finds topics and partitions. */
export class Router {
  private readonly store: LogStore
  readonly maxRecordBytes: number
  private readonly turns: Map<string, RoundRobin> = new Map()

  constructor(store: LogStore, maxRecordBytes: number) {
    this.store = store
    this.maxRecordBytes = maxRecordBytes
  }

  /** @throws MeshError NOT_FOUND */
  topic(name: string): Topic {
    const topic = this.store.topics.get(name)
    if (topic === undefined) throw new MeshError('NOT_FOUND', `there is no topic "${name}": create it first`, { field: 'topic' })
    return topic
  }

  /** @throws MeshError NOT_FOUND for an unknown topic, INVALID_ARGUMENT for a partition that is not there or a record over the limit */
  route(write: Write): readonly Routed[] {
    const { records, partition } = write
    const { name, logs } = this.topic(write.topic)
    checkRecords(records, this.maxRecordBytes)
    if (partition !== undefined && logs[partition] === undefined)
      throw new MeshError('INVALID_ARGUMENT', `topic "${name}" has no partition ${partition}, expected 0 to ${logs.length - 1}`, {
        field: 'partition',
      })
    if (records.count === 0) return []
    if (partition !== undefined || logs.length === 1) return [{ log: logs[partition ?? 0]!, records }]
    const indices = new Map<number, number[]>()
    for (const [row, chosen] of choosePartitions(records, logs.length, this.turnOf(name)).entries()) {
      const rows = indices.get(chosen)
      if (rows === undefined) indices.set(chosen, [row])
      else rows.push(row)
    }
    return [...indices].map(([chosen, rows]) => ({ log: logs[chosen]!, records: takeRecords(records, rows), indices: rows }))
  }

  private turnOf(topic: string): RoundRobin {
    let turn = this.turns.get(topic)
    if (turn === undefined) this.turns.set(topic, (turn = { next: 0 }))
    return turn
  }
}
