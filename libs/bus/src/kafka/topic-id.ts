import type { Cluster } from './kafkajs-cluster.ts'
import { SharedRequests } from './shared-requests.ts'

const apiKey = 3
/** The first with topic ids (Kafka 2.8); kafkajs's own end at 6. */
const apiVersion = 10

/** What tells a topic from one of the same name that was there before it, for partitions that ask for it all at a time. */
export class TopicIds {
  readonly #requests = new SharedRequests<string, string | undefined>()

  /** Undefined where the broker is older than these ids, or does not know the topic. @returns hexadecimal */
  of(cluster: Cluster, topic: string): Promise<string | undefined> {
    return this.#requests.ask(topic, () => topicId(cluster, topic))
  }
}

/** Metadata, version 10 (KIP-516). */
async function topicId(cluster: Cluster, topic: string): Promise<string | undefined> {
  const broker = await cluster.findBroker({ nodeId: cluster.getNodeIds()[0] ?? '0' })
  if ((broker.versions?.[apiKey]?.maxVersion ?? 0) < apiVersion) return undefined
  const request = {
    apiKey,
    apiVersion,
    apiName: 'Metadata',
    expectResponse: () => true,
    encode: () => {
      const buffer = requestOf(topic)
      // What kafkajs takes for one of its encoders.
      return Promise.resolve({ buf: buffer, buffer })
    },
  }
  const response = { decode: (raw: Buffer) => Promise.resolve({ id: idIn(raw) }), parse: ({ id }: { id?: string }) => Promise.resolve(id) }
  try {
    return (await broker.connectionPool.send({ request, response })) as string | undefined
  } catch (error) {
    // As kafkajs's own requests do, so that the next one connects anew.
    if ((error as Error).name === 'KafkaJSConnectionClosedError') await broker.disconnect()
    throw error
  }
}

/** The header's tags, then [topic_id name tags] allow_auto_topic_creation include_cluster_authorized_operations include_topic_authorized_operations tags, in the compact forms of KIP-482. */
function requestOf(topic: string): Buffer {
  const name = Buffer.from(topic)
  return Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(16), unsignedVarint(name.length + 1), name, Buffer.from([0, 0, 0, 0, 0])])
}

function unsignedVarint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.from([...bytes, rest])
}

/** The header's tags, then throttle_time_ms [node_id host port rack tags] cluster_id controller_id [error_code name topic_id …]. */
function idIn(raw: Buffer): string | undefined {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = raw.readUInt8(at++)
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  const skip = (bytes: number): void => void (at += Math.max(0, bytes))
  const skipText = (): void => skip(varint() - 1)
  const skipTags = (): void => {
    for (let tags = varint(); tags > 0; tags--) {
      varint()
      skip(varint())
    }
  }
  skipTags()
  skip(4)
  for (let brokers = varint() - 1; brokers > 0; brokers--) {
    skip(4)
    skipText()
    skip(4)
    skipText()
    skipTags()
  }
  skipText()
  skip(4)
  if (varint() < 2 || raw.readInt16BE(at) !== 0) return undefined
  skip(2)
  skipText()
  return raw.subarray(at, at + 16).toString('hex')
}
