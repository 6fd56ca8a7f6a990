import { MeshError } from '@spillway/core'
import type { TopicAdmin, TopicDescription } from '../port.ts'
import type { OpenInput } from './inputs.ts'

/** The inputs are there, any other topic is the sink's to make. */
export class ReplayTopics implements TopicAdmin {
  private readonly partitions: number
  private readonly inputs: () => ReadonlyMap<string, OpenInput>

  /** `inputs` throws where the bus is not started. */
  constructor(partitions: number, inputs: () => ReadonlyMap<string, OpenInput>) {
    this.partitions = partitions
    this.inputs = inputs
  }

  /** Makes nothing, and refuses nothing. */
  ensure(): Promise<void> {
    return Promise.resolve()
  }

  async describe(name: string): Promise<TopicDescription> {
    return { name, partitions: this.inputs().get(name)?.lanes.length ?? this.partitions }
  }

  /** The inputs. */
  async list(): Promise<readonly TopicDescription[]> {
    return Array.from(this.inputs(), ([name, { lanes }]) => ({ name, partitions: lanes.length }))
  }

  /** Of an input: where it begins, and its end as far as that is known. @throws MeshError NOT_FOUND for what is no input */
  async offsets(name: string): Promise<readonly { readonly partition: number; readonly earliest: bigint; readonly end: bigint }[]> {
    const input = this.inputs().get(name)
    if (input === undefined)
      throw new MeshError('NOT_FOUND', `topic "${name}" is no input of the replay: it has no offsets`, { field: 'topic' })
    return input.lanes.map((lane) => ({ partition: lane.partition, earliest: lane.from, end: lane.lag.endOffset }))
  }
}
