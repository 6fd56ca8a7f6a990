import kafkajs, { type Admin } from 'kafkajs'

/** What a batch takes beside its largest record's key, value and headers (Kafka protocol, Record Batch). */
const recordOverheadBytes = 1024

/** What topics take that take less than the bus: known once one has refused a batch. */
export class TopicLimits {
  readonly #admin: Admin
  readonly #maxRecordBytes: number
  readonly #maxBatchBytes: number
  readonly #batchBytes = new Map<string, number>()

  constructor(admin: Admin, limits: { readonly maxRecordBytes: number; readonly maxBatchBytes: number }) {
    this.#admin = admin
    this.#maxRecordBytes = limits.maxRecordBytes
    this.#maxBatchBytes = limits.maxBatchBytes
  }

  /** Key, value and headers of a record, at most. */
  recordBytes(topic: string): number {
    return Math.min(this.#maxRecordBytes, this.batchBytes(topic) - recordOverheadBytes)
  }

  batchBytes(topic: string): number {
    return this.#batchBytes.get(topic) ?? this.#maxBatchBytes
  }

  /** One of these has refused a batch for its size: asks for what they take. Where that is not said, or does not explain it, half of what was taken to be right is. */
  async learn(topics: readonly string[]): Promise<void> {
    const found = await this.#configured(topics).catch(() => new Map<string, number>())
    const smaller = topics.filter((topic) => (found.get(topic) ?? Infinity) < this.batchBytes(topic))
    for (const topic of smaller) this.#batchBytes.set(topic, found.get(topic)!)
    if (smaller.length === 0) for (const topic of topics) this.#batchBytes.set(topic, Math.max(minBatchBytes, this.batchBytes(topic) >> 1))
  }

  async #configured(topics: readonly string[]): Promise<Map<string, number>> {
    const configNames = ['max.message.bytes']
    const { resources } = await this.#admin.describeConfigs({
      resources: topics.map((name) => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames })),
      includeSynonyms: false,
    })
    const entries = resources.flatMap(({ resourceName, configEntries }) =>
      configEntries.map(({ configValue }): [string, number] => [resourceName, Number(configValue) - batchHeaderBytes]),
    )
    return new Map(entries.filter(([, bytes]) => Number.isFinite(bytes)))
  }
}

/** Kept of a topic's limit for the batch itself. */
const batchHeaderBytes = 128
/** A dead letter's own headers need as much. */
const minBatchBytes = 16_384
