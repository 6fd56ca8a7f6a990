import { createRequire } from 'node:module'
import type { Kafka } from 'kafkajs'

/** A decoded record, as kafkajs's fetch gives it; 64-bit numbers are decimal text. */
export interface FetchedMessage {
  readonly offset: string
  readonly timestamp: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, Buffer | string | null | readonly (Buffer | string)[]>>
  readonly isControlRecord: boolean
  /** Of the record batch that it came in. */
  readonly batchContext: {
    readonly producerId: string
    readonly inTransaction: boolean
  }
}

interface ProducerFields {
  readonly producerId: string
  readonly producerEpoch: number
}

interface TransactionFields extends ProducerFields {
  readonly transactionalId: string
}

interface PartitionOffset {
  readonly partition: number
  readonly offset: string
}

/** A request with the reading of its response, as kafkajs's protocol modules make them. */
interface Exchange {
  readonly request: {
    readonly apiKey: number
    readonly apiVersion: number
    readonly apiName: string
    expectResponse(): boolean
    encode(): Promise<unknown>
  }
  readonly response: unknown
}

/** What a Produce request's answer says of each partition. */
export interface ProducedTopics {
  readonly topics: readonly {
    readonly topicName: string
    readonly partitions: readonly { readonly partition: number; readonly baseOffset: string }[]
  }[]
}

/** kafkajs's broker: one method a request of the protocol. What is used here, of 2.2.4. */
export interface Broker {
  /** The broker's connection. */
  readonly connectionPool: { send(exchange: Exchange): Promise<unknown> }
  /** What it takes, by API key; null before it is connected. */
  readonly versions: Readonly<Record<number, { readonly maxVersion: number }>> | null
  disconnect(): Promise<void>
  initProducerId(request: { readonly transactionalId?: string; readonly transactionTimeout: number }): Promise<ProducerFields>
  addPartitionsToTxn(
    request: TransactionFields & { readonly topics: readonly { readonly topic: string; readonly partitions: readonly number[] }[] },
  ): Promise<unknown>
  endTxn(request: TransactionFields & { readonly transactionResult: boolean }): Promise<unknown>
  offsetFetch(request: {
    readonly groupId: string
    readonly topics: readonly { readonly topic: string; readonly partitions: readonly { readonly partition: number }[] }[]
  }): Promise<{
    readonly responses: readonly {
      readonly topic: string
      readonly partitions: readonly (PartitionOffset & { readonly metadata: string | null })[]
    }[]
  }>
  offsetCommit(request: {
    readonly groupId: string
    readonly groupGenerationId: number
    readonly memberId: string
    readonly topics: readonly {
      readonly topic: string
      readonly partitions: readonly (PartitionOffset & { readonly metadata: string })[]
    }[]
  }): Promise<unknown>
  joinGroup(request: {
    readonly groupId: string
    readonly memberId: string
    readonly sessionTimeout: number
    readonly rebalanceTimeout: number
    readonly groupProtocols: readonly { readonly name: string; readonly metadata: Buffer }[]
  }): Promise<{
    readonly generationId: number
    readonly leaderId: string
    readonly memberId: string
    readonly members: readonly { readonly memberId: string; readonly memberMetadata: Buffer }[]
  }>
  syncGroup(request: {
    readonly groupId: string
    readonly generationId: number
    readonly memberId: string
    readonly groupAssignment: readonly { readonly memberId: string; readonly memberAssignment: Buffer }[]
  }): Promise<{ readonly memberAssignment: Buffer }>
  heartbeat(request: { readonly groupId: string; readonly groupGenerationId: number; readonly memberId: string }): Promise<unknown>
  leaveGroup(request: { readonly groupId: string; readonly memberId: string }): Promise<unknown>
}

/** `coordinatorType` of a FindCoordinator request (Kafka protocol, FindCoordinator: key_type). */
export const coordinatorTypes = { group: 0, transaction: 1 } as const

/** kafkajs's cluster: metadata and connections (one to each broker for fetching, one for the rest). What is used here, of 2.2.4. */
export interface Cluster {
  connect(): Promise<void>
  isConnected(): boolean
  getNodeIds(): readonly string[]
  addMultipleTargetTopics(topics: readonly string[]): Promise<void>
  refreshMetadata(): Promise<void>
  refreshMetadataIfNecessary(): Promise<void>
  findTopicPartitionMetadata(topic: string): readonly { readonly partitionId: number; readonly leader: number }[]
  findBroker(node: { readonly nodeId: string }): Promise<Broker>
  findControllerBroker(): Promise<Broker>
  findGroupCoordinator(of: { readonly groupId: string; readonly coordinatorType: number }): Promise<Broker>
  fetchTopicsOffset(
    topics: readonly {
      readonly topic: string
      readonly partitions: readonly { readonly partition: number }[]
      readonly fromBeginning: boolean
    }[],
  ): Promise<readonly { readonly topic: string; readonly partitions: readonly PartitionOffset[] }[]>
}

export interface OpenCluster {
  readonly cluster: Cluster
  /** Closes its connections. Idempotent. */
  close(): Promise<void>
}

/**
 * A cluster of its own connections, reading committed records. kafkajs gives its cluster to nobody but partition assigners, so that is how it
 * is had: its consumer and producer hold all partitions up for the slowest one, need a group to read, and search each transaction's
 * coordinators anew; its protocol and connections are sound, and are all that is used.
 */
export function openCluster(kafka: Kafka): OpenCluster {
  let cluster: Cluster | undefined
  const consumer = kafka.consumer({
    groupId: 'unused',
    allowAutoTopicCreation: false,
    readUncommitted: false,
    partitionAssigners: [
      (config) => {
        cluster = config.cluster as unknown as Cluster
        return { name: 'unused', version: 0, assign: async () => [], protocol: () => ({ name: 'unused', metadata: Buffer.alloc(0) }) }
      },
    ],
  })
  return { cluster: cluster!, close: async () => consumer.disconnect() }
}

export interface ProduceRequest {
  readonly transactionalId: string | null
  readonly timeoutMs: number
  /** One a partition; `records` is a whole record batch. */
  readonly batches: readonly { readonly topic: string; readonly partition: number; readonly records: Buffer }[]
}

/** Produce, version 7 (Kafka 2.1 and later): answers when all in-sync replicas have it. The request is written here, its answer read by kafkajs. */
export async function sendProduce(broker: Broker, request: ProduceRequest): Promise<ProducedTopics> {
  const response: unknown = createRequire(import.meta.url)('kafkajs/src/protocol/requests/produce/v7/response.js')
  try {
    return (await broker.connectionPool.send({
      request: {
        apiKey: 0,
        apiVersion: 7,
        apiName: 'Produce',
        expectResponse: () => true,
        encode: () => {
          const buffer = produceBody(request)
          // What kafkajs takes for one of its encoders.
          return Promise.resolve({ buf: buffer, buffer })
        },
      },
      response,
    })) as ProducedTopics
  } catch (error) {
    // As kafkajs's own requests do, so that the next one connects anew.
    if ((error as Error).name === 'KafkaJSConnectionClosedError') await broker.disconnect()
    throw error
  }
}

/** transactional_id acks timeout_ms [topic [partition records]] (Kafka protocol, Produce API, version 7). */
function produceBody({ transactionalId, timeoutMs, batches }: ProduceRequest): Buffer {
  const parts: Buffer[] = [nullableString(transactionalId), int16(-1), int32(timeoutMs)]
  const topics = Map.groupBy(batches, ({ topic }) => topic)
  parts.push(int32(topics.size))
  for (const [topic, of] of topics) {
    parts.push(nullableString(topic), int32(of.length))
    for (const { partition, records } of of) parts.push(int32(partition), int32(records.length), records)
  }
  return Buffer.concat(parts)
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function nullableString(text: string | null): Buffer {
  if (text === null) return int16(-1)
  const bytes = Buffer.from(text)
  return Buffer.concat([int16(bytes.length), bytes])
}
