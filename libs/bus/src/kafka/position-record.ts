import { createHash } from 'node:crypto'
import { MeshError } from '@spillway/core'
import type { Records } from '../port.ts'
import { recordsOf } from '../records.ts'
import type { FetchedMessage } from './kafkajs-cluster.ts'
import type { Position } from './position.ts'

const infix = '.positions.'
/** Kafka's limit of a topic's name (Apache Kafka, org.apache.kafka.common.internals.Topic). */
const maxNameLength = 249

/** The topic that keeps a group's positions on an input topic, partition by partition: `<group>.positions.<topic>`; a digest where that is no topic's name, or could be another pair's. */
export function positionsTopic(group: string, topic: string): string {
  const name = group + infix + topic
  const isUnique = name.indexOf(infix) === group.length && name.lastIndexOf(infix) === group.length
  if (isUnique && name.length <= maxNameLength && /^[\w.-]+$/.test(name)) return name
  const digest = createHash('sha256')
    .update(JSON.stringify([group, topic]))
    .digest('hex')
  return `spillway${infix}${digest.slice(0, 32)}`
}

/** One key a partition, so that compaction keeps its last position. */
const key = 'position'

/** What a record says. */
export interface RecordedPosition {
  readonly position: Position
  /** Of the topic that the offset is of, where the broker tells one. */
  readonly topicId: string | undefined
  /** Whose transaction it came in (`GroupCommit.owner`). Undefined in what a process wrote that knew no owners. */
  readonly owner: string | undefined
  /** The owner wrote it as its last there. */
  readonly isLeft: boolean
}

/** A position as the one record that holds it: JSON, the offset as decimal text. */
export function positionRecord({ position: { offset, stamp, note }, topicId, owner, isLeft }: RecordedPosition): Records {
  return recordsOf([{ key, value: JSON.stringify({ offset: String(offset), stamp, note, topicId, owner, ...(isLeft && { left: true }) }) }])
}

/** @throws MeshError FAILED_PRECONDITION where it is none */
export function readPosition(message: FetchedMessage, place: string): RecordedPosition {
  try {
    const { offset, stamp, note, topicId, owner, left } = JSON.parse(message.value?.toString() ?? '') as Record<string, unknown>
    if (typeof offset === 'string' && isText(stamp) && isText(note) && isText(topicId) && isText(owner))
      return { position: { offset: BigInt(offset), stamp, note }, topicId, owner, isLeft: left === true }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new MeshError(
    'FAILED_PRECONDITION',
    `the record at offset ${message.offset} of ${place} holds no position: expected {"offset": "…"}. Only its group's processors may write there`,
  )
}

function isText(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string'
}
