import { DeliverPolicy, jetstreamManager, type JetStreamManager, jetstream, type JsMsg } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import type { CheckedRecord } from './record.ts'

/**
 * All records that lie on `topic` now, straight from the servers; none where there is no such topic. A partition is a stream on the subject
 * `spillway.<topic>.<partition>`, in which what is neither letter, digit, `_` nor `-` is written `=XX`.
 * @throws where the end of a partition is not reached within `timeoutMs`.
 */
export async function readNats(servers: readonly string[], topic: string, timeoutMs = 60_000): Promise<CheckedRecord[]> {
  const connection = await connect({ servers: [...servers], name: 'checker' })
  try {
    const manager = await jetstreamManager(connection)
    const records: CheckedRecord[] = []
    for (const [partition, stream] of await streamsOf(manager, topic))
      for (const message of await readStream(connection, manager, stream, timeoutMs)) records.push(recordOf(partition, message))
    return records
  } finally {
    await connection.close()
  }
}

async function streamsOf(manager: JetStreamManager, topic: string): Promise<ReadonlyMap<number, string>> {
  const escaped = [...Buffer.from(topic)]
    .map((byte) => String.fromCharCode(byte))
    .map((text) => (/[\w-]/.test(text) ? text : `=${text.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`))
    .join('')
  const streams = new Map<number, string>()
  for await (const { config } of manager.streams.list(`spillway.${escaped}.*`))
    streams.set(Number(config.subjects[0]!.slice(config.subjects[0]!.lastIndexOf('.') + 1)), config.name)
  return streams
}

async function readStream(connection: NatsConnection, manager: JetStreamManager, stream: string, timeoutMs: number): Promise<JsMsg[]> {
  const { state } = await manager.streams.info(stream)
  const messages: JsMsg[] = []
  if (state.messages === 0) return messages
  const consumer = await jetstream(connection).consumers.get(stream, { deliver_policy: DeliverPolicy.All })
  const reading = await consumer.consume({ max_messages: 1000 })
  const timer = setTimeout(() => reading.stop(), timeoutMs)
  for await (const message of reading) {
    messages.push(message)
    if (message.seq >= state.last_seq) break
  }
  clearTimeout(timer)
  reading.stop()
  if (messages.at(-1)?.seq !== state.last_seq) throw new Error(`stream ${stream} was not read to its end within ${timeoutMs} ms`)
  return messages
}

function recordOf(partition: number, message: JsMsg): CheckedRecord {
  const headers: Record<string, string> = {}
  for (const [name, values] of message.headers ?? []) if (!/^(Nats|Record)-/.test(name)) headers[name] = values.at(-1) ?? ''
  const binaryKey = message.headers?.get('Record-Key-Base64') ?? ''
  return {
    partition,
    offset: message.seq - 1,
    key: binaryKey === '' ? (message.headers?.get('Record-Key') ?? '') : Buffer.from(binaryKey, 'base64').toString(),
    value: message.string(),
    headers,
  }
}
