import { bytesAt, MeshError } from '@spillway/core'
import type { Msg } from '@nats-io/transport-node'
import type { RecordHeaders, Records, Slice } from '../port.ts'
import type { HeldRecords } from '../record-queue.ts'

const keyHeader = 'Record-Key'
const binaryKeyHeader = 'Record-Key-Base64'
const timeHeader = 'Record-Time'
/** Headers that NATS cannot carry as they are: percent-encoded JSON. */
const otherHeaders = 'Record-Headers'

/** A record as it goes over the wire, but for its message id. */
export interface WireRecord {
  /** Lines, each with its line end. */
  readonly headers: string
  readonly payload: Uint8Array
}

/** Printable ASCII without blanks at its ends: what a header carries unchanged. */
const plain = /^[!-~](?:[ -~]*[!-~])?$/
const plainName = /^[A-Za-z0-9!#$&'*+.^_`|~%-]+$/
/** No line breaks, no blanks at its ends. */
const plainValue = /^(?!\s)[^\r\n\0]*(?<!\s)$/
/** Names that the server or this adapter gives a meaning. */
const reserved = /^(?:nats|record)-/i

export function encodeRecord({ keys, values, timestampsMs, headers }: Records, index: number): WireRecord {
  let lines = ''
  if (keys !== undefined && keys.offsets[index + 1]! > keys.offsets[index]!) {
    const key = Buffer.from(bytesAt(keys, index))
    const text = key.toString('latin1')
    lines += plain.test(text) ? `${keyHeader}: ${text}\r\n` : `${binaryKeyHeader}: ${key.toString('base64')}\r\n`
  }
  const timestampMs = timestampsMs?.[index]
  if (timestampMs !== undefined && !Number.isNaN(timestampMs)) lines += `${timeHeader}: ${timestampMs}\r\n`
  lines += headerLines(headers?.[index])
  return { headers: lines, payload: bytesAt(values, index) }
}

function headerLines(named: RecordHeaders | undefined): string {
  let lines = ''
  let others: Record<string, string> | undefined
  for (const name in named) {
    const value = named[name]!
    if (plainName.test(name) && !reserved.test(name) && plainValue.test(value)) lines += `${name}: ${value}\r\n`
    else (others ??= {})[name] = value
  }
  return others === undefined ? lines : `${lines}${otherHeaders}: ${encodeURIComponent(JSON.stringify(others).toWellFormed())}\r\n`
}

/** A record as it came: from a stream, with its place there. */
export interface StoredRecord {
  readonly sequence: number
  readonly timestampMs: number
  readonly key: Uint8Array | undefined
  readonly value: Uint8Array
  readonly headers: RecordHeaders | undefined
  /** Key, value and headers. */
  readonly bytes: number
}

export function decodeRecord(message: Msg, sequence: number, acceptedMs: number): StoredRecord {
  const { data: value } = message
  let timestampMs = acceptedMs
  let bytes = value.length
  let key: Uint8Array | undefined
  let named: Record<string, string> | undefined
  for (const [name, all] of message.headers ?? []) {
    const text = all.at(-1) ?? ''
    if (name === keyHeader) key = Buffer.from(text, 'latin1')
    else if (name === binaryKeyHeader) key = Buffer.from(text, 'base64')
    else if (name === timeHeader) timestampMs = Number(text)
    else if (name === otherHeaders) Object.assign((named ??= {}), decodeOthers(text, message.subject, sequence))
    else if (!name.startsWith('Nats-')) (named ??= {})[name] = text
  }
  bytes += key?.length ?? 0
  for (const name in named) bytes += Buffer.byteLength(name) + Buffer.byteLength(named[name]!)
  return { sequence, timestampMs, key, value, headers: named, bytes }
}

function decodeOthers(text: string, subject: string, sequence: number): Record<string, string> {
  try {
    return JSON.parse(decodeURIComponent(text)) as Record<string, string>
  } catch (error) {
    throw new MeshError('DATA_LOSS', `message ${sequence} on ${subject} has a header ${otherHeaders} that cannot be read`, { cause: error })
  }
}

export function offsetOf(sequence: number): bigint {
  return BigInt(sequence - 1)
}

export function sequenceOf(offset: bigint): number {
  return Number(offset) + 1
}

/** Records `start` to `end` as a slice: keys and values copied into one buffer each. */
export function sliceOf(topic: string, partition: number, stored: readonly StoredRecord[], start: number, end: number): Slice {
  const count = end - start
  let valueBytes = 0
  let keyBytes = 0
  for (let i = start; i < end; i++) {
    valueBytes += stored[i]!.value.length
    keyBytes += stored[i]!.key?.length ?? 0
  }
  const values = { bytes: new Uint8Array(valueBytes), offsets: new Uint32Array(count + 1) }
  const keys = { bytes: new Uint8Array(keyBytes), offsets: new Uint32Array(count + 1) }
  const timestampsMs = new Float64Array(count)
  const offsets = new BigInt64Array(count)
  let headers: (RecordHeaders | undefined)[] | undefined
  let [valueEnd, keyEnd] = [0, 0]
  for (let i = 0; i < count; i++) {
    const record = stored[start + i]!
    values.bytes.set(record.value, valueEnd)
    values.offsets[i + 1] = valueEnd += record.value.length
    if (record.key !== undefined) keys.bytes.set(record.key, keyEnd)
    keys.offsets[i + 1] = keyEnd += record.key?.length ?? 0
    timestampsMs[i] = record.timestampMs
    offsets[i] = offsetOf(record.sequence)
    if (record.headers !== undefined) (headers ??= new Array<RecordHeaders | undefined>(count).fill(undefined))[i] = record.headers
  }
  return {
    topic,
    partition,
    offsets,
    records: { count, values, timestampsMs, ...(keyBytes > 0 && { keys }), ...(headers !== undefined && { headers }) },
  }
}

export const heldRecords: HeldRecords<StoredRecord> = { bytesOf: ({ bytes }) => bytes, sliceOf }
