import { crc32c } from '@node-rs/crc32'
import type { RecordHeaders, Records } from '../port.ts'

/** What a batch says of its producer. */
export interface BatchProducer {
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly firstSequence: number
  readonly transactional: boolean
}

/** Bytes before the records: Kafka protocol, "Record Batch". */
const batchHeaderBytes = 61
/** A record's fixed part at its longest: length, attributes, two deltas, two lengths, count of headers. */
const recordOverheadBytes = 5 + 1 + 10 + 5 + 5 + 5 + 5
const headerOverheadBytes = 10
const transactionalAttribute = 0x10

/**
 * Records as one record batch, magic 2, uncompressed (Kafka protocol, "Record Batch" and "Record"). Written straight into one buffer: kafkajs's own
 * encoder takes half of a slice's time, most of it in a growing buffer a record and another a header.
 * @param nowMs timestamp of records that have none
 */
export function encodeRecordBatch(records: Records, producer: BatchProducer, nowMs: number): Buffer {
  const headers = new HeaderTexts(records.headers)
  const writer = new Writer(batchHeaderBytes + sizeLimit(records, headers))
  const { count, keys, values, timestampsMs } = records
  const timestamp = (row: number): number => {
    const given = timestampsMs?.[row]
    return given === undefined || Number.isNaN(given) ? nowMs : Math.trunc(given)
  }
  const baseMs = count === 0 ? nowMs : timestamp(0)
  let maxMs = baseMs
  writer.end = batchHeaderBytes
  for (let row = 0; row < count; row++) {
    const timestampMs = timestamp(row)
    if (timestampMs > maxMs) maxMs = timestampMs
    const keyStart = keys?.offsets[row] ?? 0
    const keyBytes = (keys?.offsets[row + 1] ?? 0) - keyStart
    const valueStart = values.offsets[row]!
    const valueBytes = values.offsets[row + 1]! - valueStart
    const named = headers.of(row)
    const delta = timestampMs - baseMs
    // The empty key counts as none, and none is written as length -1.
    const keyLength = keyBytes === 0 ? -1 : keyBytes
    let bodyBytes =
      1 +
      varintBytes(delta) +
      varintBytes(row) +
      varintBytes(keyLength) +
      keyBytes +
      varintBytes(valueBytes) +
      valueBytes +
      varintBytes(named.length / 2)
    for (const part of named) bodyBytes += varintBytes(part.length) + part.length
    writer.varint(bodyBytes)
    writer.byte(0)
    writer.varint(delta)
    writer.varint(row)
    writer.varint(keyLength)
    if (keyBytes > 0) writer.bytes(keys!.bytes, keyStart, keyBytes)
    writer.varint(valueBytes)
    writer.bytes(values.bytes, valueStart, valueBytes)
    writer.varint(named.length / 2)
    for (const part of named) {
      writer.varint(part.length)
      writer.bytes(part, 0, part.length)
    }
  }
  const batch = writer.buffer.subarray(0, writer.end)
  writeBatchHeader(batch, count, baseMs, maxMs, producer)
  return batch
}

function writeBatchHeader(batch: Buffer, count: number, baseMs: number, maxMs: number, producer: BatchProducer): void {
  batch.writeBigInt64BE(0n, 0) // base offset: the broker's to give
  batch.writeInt32BE(batch.length - 12, 8)
  batch.writeInt32BE(-1, 12) // partition leader epoch
  batch.writeInt8(2, 16) // magic
  batch.writeInt16BE(producer.transactional ? transactionalAttribute : 0, 21)
  batch.writeInt32BE(count - 1, 23)
  batch.writeBigInt64BE(BigInt(baseMs), 27)
  batch.writeBigInt64BE(BigInt(maxMs), 35)
  batch.writeBigInt64BE(producer.producerId, 43)
  batch.writeInt16BE(producer.producerEpoch, 51)
  batch.writeInt32BE(producer.firstSequence, 53)
  batch.writeInt32BE(count, 57)
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
}

function sizeLimit(records: Records, headers: HeaderTexts): number {
  const { count, keys, values } = records
  const data = values.offsets[count]! - values.offsets[0]! + (keys === undefined ? 0 : keys.offsets[count]! - keys.offsets[0]!)
  return data + count * recordOverheadBytes + headers.sizeLimit
}

const none: readonly Buffer[] = []

/** Headers as UTF-8: name, value, name, value … a record. Most values of a header are the same in every record, so the last one's bytes are kept. */
class HeaderTexts {
  readonly sizeLimit: number
  private readonly rows: readonly (readonly Buffer[])[] | undefined

  constructor(headers: readonly (RecordHeaders | undefined)[] | undefined) {
    let bytes = 0
    const names = new Map<string, { readonly bytes: Buffer; text: string; value: Buffer }>()
    this.rows = headers?.map((named) => {
      if (named === undefined) return none
      const parts: Buffer[] = []
      for (const name in named) {
        const text = named[name]!
        let known = names.get(name)
        if (known === undefined) names.set(name, (known = { bytes: Buffer.from(name), text, value: Buffer.from(text) }))
        else if (known.text !== text) {
          known.text = text
          known.value = Buffer.from(text)
        }
        parts.push(known.bytes, known.value)
        bytes += known.bytes.length + known.value.length + headerOverheadBytes
      }
      return parts
    })
    this.sizeLimit = bytes
  }

  of(row: number): readonly Buffer[] {
    return this.rows?.[row] ?? none
  }
}

/** Length of a zigzag varint (Kafka protocol, "Protocol Primitive Types": VARINT, VARLONG; as protobuf's). */
function varintBytes(value: number): number {
  let rest = value < 0 ? -value * 2 - 1 : value * 2
  let bytes = 1
  while (rest >= 0x80) {
    rest = Math.floor(rest / 0x80)
    bytes++
  }
  return bytes
}

class Writer {
  readonly buffer: Buffer
  end = 0

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafe(capacity)
  }

  byte(value: number): void {
    this.buffer[this.end++] = value
  }

  varint(value: number): void {
    let rest = value < 0 ? -value * 2 - 1 : value * 2
    while (rest >= 0x80) {
      this.buffer[this.end++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.buffer[this.end++] = rest
  }

  bytes(source: Uint8Array, start: number, length: number): void {
    // For a few bytes the loop beats the call.
    if (length < 24) for (let i = 0; i < length; i++) this.buffer[this.end + i] = source[start + i]!
    else this.buffer.set(source.subarray(start, start + length), this.end)
    this.end += length
  }
}
