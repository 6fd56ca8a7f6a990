import type { RecordHeaders, Records, Slice } from '../port.ts'
import type { FetchedMessage, ProducedMessage } from './kafkajs-cluster.ts'

/** Records `start` to `end` of a fetch's messages as a slice: keys and values copied into one buffer each. */
export function sliceOf(topic: string, partition: number, messages: readonly FetchedMessage[], start: number, end: number): Slice {
  const count = end - start
  let valueBytes = 0
  let keyBytes = 0
  for (let i = start; i < end; i++) {
    valueBytes += messages[i]!.value?.length ?? 0
    keyBytes += messages[i]!.key?.length ?? 0
  }
  const values = { bytes: new Uint8Array(valueBytes), offsets: new Uint32Array(count + 1) }
  const keys = { bytes: new Uint8Array(keyBytes), offsets: new Uint32Array(count + 1) }
  const timestampsMs = new Float64Array(count)
  const offsets = new BigInt64Array(count)
  let headers: (RecordHeaders | undefined)[] | undefined
  let valueEnd = 0
  let keyEnd = 0
  for (let i = 0; i < count; i++) {
    const message = messages[start + i]!
    if (message.value !== null) {
      values.bytes.set(message.value, valueEnd)
      valueEnd += message.value.length
    }
    if (message.key !== null) {
      keys.bytes.set(message.key, keyEnd)
      keyEnd += message.key.length
    }
    values.offsets[i + 1] = valueEnd
    keys.offsets[i + 1] = keyEnd
    timestampsMs[i] = Number(message.timestamp)
    offsets[i] = BigInt(message.offset)
    const named = headersOf(message)
    if (named !== undefined) (headers ??= new Array<RecordHeaders | undefined>(count).fill(undefined))[i] = named
  }
  return {
    topic,
    partition,
    offsets,
    records: { count, values, timestampsMs, ...(keyBytes > 0 && { keys }), ...(headers !== undefined && { headers }) },
  }
}

function headersOf(message: FetchedMessage): RecordHeaders | undefined {
  let named: Record<string, string> | undefined
  for (const name in message.headers) {
    const value = message.headers[name]!
    // Of a name given more than once the last counts, as in Java's `lastHeader`.
    const last = Array.isArray(value) ? (value as readonly (Buffer | string)[]).at(-1) : value
    ;(named ??= {})[name] = last?.toString() ?? ''
  }
  return named
}

/** Key, value and headers, in bytes. */
export function messageBytes(message: FetchedMessage): number {
  let bytes = (message.value?.length ?? 0) + (message.key?.length ?? 0)
  for (const name in message.headers) {
    const value = message.headers[name]
    if (value) bytes += Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : value.length)
  }
  return bytes
}

/** Records as kafkajs writes them, sharing the bytes. */
export function messagesOf(records: Records): ProducedMessage[] {
  const { count, keys, values, timestampsMs, headers } = records
  const valueBuffer = Buffer.from(values.bytes.buffer, values.bytes.byteOffset, values.bytes.byteLength)
  const keyBuffer = keys && Buffer.from(keys.bytes.buffer, keys.bytes.byteOffset, keys.bytes.byteLength)
  const nowMs = Date.now()
  const messages = new Array<ProducedMessage>(count)
  for (let i = 0; i < count; i++) {
    const value = valueBuffer.subarray(values.offsets[i], values.offsets[i + 1])
    const key = keys && keys.offsets[i + 1]! > keys.offsets[i]! ? keyBuffer!.subarray(keys.offsets[i], keys.offsets[i + 1]) : null
    const named = headers?.[i]
    if (timestampsMs === undefined && named === undefined) messages[i] = { key, value }
    else
      messages[i] = {
        key,
        value,
        ...(timestampsMs && { timestamp: timestampOf(timestampsMs[i]!, nowMs) }),
        ...(named && { headers: named }),
      }
  }
  return messages
}

function timestampOf(timestampMs: number, nowMs: number): number | string {
  if (Number.isNaN(timestampMs)) return nowMs
  return timestampMs === 0 ? '0' : Math.trunc(timestampMs)
}
