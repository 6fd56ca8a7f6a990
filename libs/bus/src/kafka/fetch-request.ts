import { createRequire } from 'node:module'
import { MeshError } from '@spillway/core'
import type { Broker, FetchedMessage } from './kafkajs-cluster.ts'

export interface FetchRequest {
  readonly maxWaitMs: number
  readonly maxBytes: number
  readonly maxBytesPerPartition: number
  /** With those of transactions that are still open, up to the high watermark, and without a list of aborted ones; records of transactions that have ended where absent. */
  readonly uncommitted?: boolean
  /** Served in this order until `maxBytes` is reached. */
  readonly partitions: readonly { readonly topic: string; readonly partition: number; readonly from: bigint }[]
}

/** What a Fetch answered of a partition. */
export type FetchedPartition = {
  readonly topic: string
  readonly partition: number
} & (
  | {
      /** With control records, those of aborted transactions, and those before the offset that was asked for. */
      readonly messages: readonly FetchedMessage[]
      readonly aborted: readonly AbortedTransaction[]
      /** Before it all is decided, and given. */
      readonly lastStableOffset: bigint
      /** Before it all is replicated. */
      readonly highWatermark: bigint
      /** Behind the last batch that came, whether it held a record or not; undefined where none came. */
      readonly next: bigint | undefined
    }
  | { readonly error: unknown }
)

export interface AbortedTransaction {
  readonly producerId: string
  readonly firstOffset: bigint
}

/** What is used of kafkajs 2.2.4's protocol modules. */
interface Protocol {
  readonly Decoder: new (buffer: Buffer) => unknown
  readonly decodeBatch: (decoder: unknown) => Promise<{ readonly records: readonly FetchedMessage[] }>
  readonly createErrorFromCode: (code: number) => Error
}

/**
 * Fetch, version 10 (Kafka 2.1 and later), without a session. kafkajs writes the request and reads record batches; the answer
 * around them is read here: kafkajs throws all of it away for one partition's error, and does not tell the offsets of batches without records.
 */
export async function sendFetch(
  broker: Broker,
  { maxWaitMs, maxBytes, maxBytesPerPartition, uncommitted = false, partitions }: FetchRequest,
): Promise<readonly FetchedPartition[]> {
  const load = createRequire(import.meta.url)
  const encode = load('kafkajs/src/protocol/requests/fetch/v10/request.js') as (
    fields: object,
  ) => Parameters<typeof broker.connectionPool.send>[0]['request']
  const protocol: Protocol = {
    Decoder: load('kafkajs/src/protocol/decoder.js') as Protocol['Decoder'],
    decodeBatch: load('kafkajs/src/protocol/recordBatch/v0/decoder.js') as Protocol['decodeBatch'],
    createErrorFromCode: (load('kafkajs/src/protocol/error.js') as Protocol).createErrorFromCode,
  }
  const topics = Array.from(
    Map.groupBy(partitions, ({ topic }) => topic),
    ([topic, of]) => ({
      topic,
      partitions: of.map(({ partition, from }) => ({ partition, fetchOffset: String(from), maxBytes: maxBytesPerPartition })),
    }),
  )
  const request = encode({ replicaId: -1, isolationLevel: uncommitted ? 0 : 1, maxWaitTime: maxWaitMs, minBytes: 1, maxBytes, topics })
  const response = {
    decode: (raw: Buffer) => decodeAnswer(raw, protocol),
    parse: (answer: readonly FetchedPartition[]) => Promise.resolve(answer),
  }
  try {
    return (await broker.connectionPool.send({ request, response })) as readonly FetchedPartition[]
  } catch (error) {
    // As kafkajs's own requests do, so that the next one connects anew.
    if ((error as Error).name === 'KafkaJSConnectionClosedError') await broker.disconnect()
    throw error
  }
}

/** throttle_time_ms error_code session_id [topic [partition error_code high_watermark last_stable_offset log_start_offset [aborted] records]] */
async function decodeAnswer(raw: Buffer, protocol: Protocol): Promise<readonly FetchedPartition[]> {
  let at = 4
  const int16 = (): number => raw.readInt16BE((at += 2) - 2)
  const int32 = (): number => raw.readInt32BE((at += 4) - 4)
  const int64 = (): bigint => raw.readBigInt64BE((at += 8) - 8)
  const bytes = (length: number): Buffer => raw.subarray(at, (at += Math.max(0, length)))
  const code = int16()
  if (code !== 0) throw protocol.createErrorFromCode(code)
  int32()
  const fetched: FetchedPartition[] = []
  for (let topics = int32(); topics > 0; topics--) {
    const topic = bytes(int16()).toString()
    for (let partitions = int32(); partitions > 0; partitions--) {
      const [partition, code] = [int32(), int16()]
      const [highWatermark, lastStableOffset] = [int64(), int64()]
      at += 8
      const aborted: AbortedTransaction[] = []
      for (let count = int32(); count > 0; count--) aborted.push({ producerId: String(int64()), firstOffset: int64() })
      const records = bytes(int32())
      const place = { topic, partition }
      if (code !== 0) fetched.push({ ...place, error: protocol.createErrorFromCode(code) })
      else
        fetched.push(
          await decodeBatches(records, protocol).then(
            (decoded) => ({ ...place, ...decoded, aborted, lastStableOffset, highWatermark }),
            (error: unknown) => ({ ...place, error }),
          ),
        )
    }
  }
  return fetched
}

// Kafka protocol, Record Batch: baseOffset int64, batchLength int32, partitionLeaderEpoch int32, magic int8, crc, attributes int16, lastOffsetDelta int32, ...
const headBytes = 61
const lengthAt = 8
const magicAt = 16
const lastOffsetDeltaAt = 23

async function decodeBatches(
  records: Buffer,
  { Decoder, decodeBatch }: Protocol,
): Promise<{ readonly messages: readonly FetchedMessage[]; readonly next: bigint | undefined }> {
  const messages: FetchedMessage[] = []
  let next: bigint | undefined
  for (let at = 0; at + headBytes <= records.length;) {
    const end = at + lengthAt + 4 + records.readInt32BE(at + lengthAt)
    // The broker cuts the last batch where the limit is reached.
    if (end > records.length) break
    const magic = records.readInt8(at + magicAt)
    if (magic !== 2)
      throw new MeshError('FAILED_PRECONDITION', `the log holds records in the format ${magic}, from before Kafka 0.11: expected 2`)
    const batch = await decodeBatch(new Decoder(records.subarray(at, end)))
    for (const message of batch.records) messages.push(message)
    next = records.readBigInt64BE(at) + BigInt(records.readInt32BE(at + lastOffsetDeltaAt)) + 1n
    at = end
  }
  return { messages, next }
}
