import { MeshError } from '@spillway/core'
import type { TopicAdmin, TopicDescription, TopicSettings } from '../port.ts'
import type { Engine } from './engine.ts'
import type { Topic } from './log-store.ts'

const maxPartitions = 1024

export class EmbeddedTopics implements TopicAdmin {
  private readonly engine: () => Engine

  constructor(engine: () => Engine) {
    this.engine = engine
  }

  /** All or none. @throws MeshError INVALID_ARGUMENT for a name or count that Kafka would not take either */
  async ensure(topics: readonly TopicSettings[]): Promise<void> {
    const { store } = this.engine()
    const missing = new Map<string, TopicSettings>()
    for (const settings of topics) {
      checkSettings(settings)
      const partitions = store.topics.get(settings.name)?.logs.length ?? missing.get(settings.name)?.partitions
      if (partitions === undefined) missing.set(settings.name, settings)
      else if (partitions !== settings.partitions)
        throw new MeshError(
          'FAILED_PRECONDITION',
          `topic "${settings.name}" has ${partitions} partitions, expected ${settings.partitions}: use another name, or that count`,
          { field: 'partitions' },
        )
    }
    if (missing.size > 0) store.createTopics([...missing.values()])
  }

  async describe(name: string): Promise<TopicDescription | undefined> {
    const topic = this.engine().store.topics.get(name)
    return topic && describeTopic(topic)
  }

  async list(): Promise<readonly TopicDescription[]> {
    return [...this.engine().store.topics.values()].map(describeTopic)
  }

  async offsets(name: string): Promise<readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]> {
    const { logs } = this.engine().router.topic(name)
    return logs.map((log) => ({ partition: log.partition, earliest: BigInt(log.earliest), end: BigInt(log.end) }))
  }
}

function describeTopic(topic: Topic): TopicDescription {
  return { name: topic.name, partitions: topic.logs.length }
}

/** Names: Apache Kafka, clients/.../common/internals/Topic.java. */
function checkSettings({ name, partitions }: TopicSettings): void {
  if (!/^(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}$/.test(name))
    throw new MeshError('INVALID_ARGUMENT', `"${name}" is no topic name: use 1 to 249 letters, digits, dots, underscores and hyphens`, {
      field: 'name',
    })
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > maxPartitions)
    throw new MeshError('INVALID_ARGUMENT', `topic "${name}": partitions is ${partitions}, expected 1 to ${maxPartitions}`, {
      field: 'partitions',
    })
}
