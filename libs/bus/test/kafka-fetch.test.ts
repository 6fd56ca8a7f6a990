import { expect, test } from 'vitest'
import { sendFetch } from '../src/kafka/fetch-request.ts'
import type { Broker } from '../src/kafka/kafkajs-cluster.ts'
import { encodeRecordBatch } from '../src/kafka/record-batch.ts'
import { recordsOf } from '../src/records.ts'

type Exchange = Parameters<Broker['connectionPool']['send']>[0] & { readonly response: { decode(raw: Buffer): Promise<unknown> } }

function batchAt(offset: bigint, values: readonly string[]): Buffer {
  const producer = { producerId: 12n, producerEpoch: 0, firstSequence: 0, transactional: false }
  const batch = encodeRecordBatch(recordsOf(values.map((value) => ({ value }))), producer, 0)
  batch.writeBigInt64BE(offset)
  return batch
}

/** As compaction leaves the last batch of a producer when its records are superseded: its header alone, with the offsets that it had. */
function emptied(batch: Buffer): Buffer {
  const header = Buffer.from(batch.subarray(0, 61))
  header.writeInt32BE(header.length - 12, 8)
  header.writeInt32BE(0, 57)
  return header
}

const int16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255])
const int32 = (value: number): Buffer => Buffer.concat([int16(value >> 16), int16(value & 0xffff)])

/** Partitions of topic `t` as a Fetch, version 10, answers them. */
function answer(
  partitions: readonly { readonly code?: number; readonly aborted?: readonly bigint[]; readonly records?: Buffer }[],
): Buffer {
  const parts = [int32(0), int16(0), int32(0), int32(1), int16(1), Buffer.from('t'), int32(partitions.length)]
  for (const [partition, { code = 0, aborted = [], records = Buffer.alloc(0) }] of partitions.entries()) {
    parts.push(int32(partition), int16(code), Buffer.alloc(24), int32(aborted.length))
    for (const firstOffset of aborted) {
      const entry = Buffer.alloc(16)
      entry.writeBigInt64BE(12n)
      entry.writeBigInt64BE(firstOffset, 8)
      parts.push(entry)
    }
    parts.push(int32(records.length), records)
  }
  return Buffer.concat(parts)
}

async function fetched(raw: Buffer): Promise<Awaited<ReturnType<typeof sendFetch>>> {
  const send = (exchange: unknown): Promise<unknown> => (exchange as Exchange).response.decode(raw)
  const broker = { connectionPool: { send } } as unknown as Broker
  return sendFetch(broker, { maxWaitMs: 0, maxBytes: 1, maxBytesPerPartition: 1, partitions: [{ topic: 't', partition: 0, from: 0n }] })
}

test('a fetch goes on behind a batch that holds no record', async () => {
  const records = Buffer.concat([batchAt(5n, ['a', 'b']), emptied(batchAt(7n, ['c', 'd', 'e']))])
  expect(await fetched(answer([{ records }, { records: emptied(batchAt(3n, ['x'])) }, {}]))).toMatchObject([
    { partition: 0, next: 10n, messages: [{ offset: '5' }, { offset: '6' }] },
    { partition: 1, next: 4n, messages: [] },
    { partition: 2, next: undefined, messages: [] },
  ])
})

test('a batch that the broker cut is left for the next fetch', async () => {
  const whole = batchAt(0n, ['a'])
  const cut = batchAt(1n, ['x'.repeat(500)]).subarray(0, 300)
  expect(await fetched(answer([{ records: Buffer.concat([whole, cut]) }, { records: cut.subarray(0, 30) }]))).toMatchObject([
    { next: 1n, messages: [{ offset: '0' }] },
    { next: undefined, messages: [] },
  ])
})

test('one partition’s error, or records that cannot be read, leave the others their answer', async () => {
  const old = batchAt(0n, ['a'])
  old.writeInt8(1, 16)
  const result = await fetched(answer([{ code: 1 }, { records: old }, { aborted: [4n], records: batchAt(4n, ['a']) }]))
  expect(result).toMatchObject([
    { topic: 't', partition: 0, error: { type: 'OFFSET_OUT_OF_RANGE' } },
    { partition: 1, error: { code: 'FAILED_PRECONDITION', message: expect.stringContaining('format 1') } },
    { partition: 2, aborted: [{ producerId: '12', firstOffset: 4n }], next: 5n },
  ])
})
