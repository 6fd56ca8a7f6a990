import type { RecordHeaders, Slice } from '../port.ts'
import type { HeldRecords } from '../record-queue.ts'
import type { FetchedMessage } from './kafkajs-cluster.ts'

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
function messageBytes(message: FetchedMessage): number {
  let bytes = (message.value?.length ?? 0) + (message.key?.length ?? 0)
  for (const name in message.headers) {
    const value = message.headers[name]
    if (value) bytes += Buffer.byteLength(name) + (typeof value === 'string' ? Buffer.byteLength(value) : value.length)
  }
  return bytes
}

export const heldMessages: HeldRecords<FetchedMessage> = { bytesOf: messageBytes, sliceOf }
