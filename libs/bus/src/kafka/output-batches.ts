import type { Outputs } from '../port.ts'
import { checkRecords, type RoundRobin } from '../records.ts'
import { batchesOf, type ProduceBatch } from './produce.ts'
import type { TopicLimits } from './topic-limits.ts'

/** Turns the outputs of an input partition into record batches that their topics take. */
export class OutputBatches {
  readonly #limits: TopicLimits
  readonly #turns = new Map<string, RoundRobin>()

  constructor(limits: TopicLimits) {
    this.#limits = limits
  }

  /** @throws MeshError INVALID_ARGUMENT for a record over its topic's limit, or a partition that is not there */
  async batches({ writes }: Outputs, partitionCount: (topic: string) => Promise<number>): Promise<ProduceBatch[]> {
    const batches: ProduceBatch[] = []
    for (const write of writes) {
      const { topic, records } = write
      if (records.count === 0) continue
      checkRecords(records, this.#limits.recordBytes(topic))
      let turn = this.#turns.get(topic)
      if (turn === undefined) this.#turns.set(topic, (turn = { next: 0 }))
      batches.push(...batchesOf(write, await partitionCount(topic), turn, this.#limits.batchBytes(topic)))
    }
    return batches
  }

  /** After one of these was too large. */
  async learnLimits(batches: readonly ProduceBatch[]): Promise<void> {
    await this.#limits.learn([...new Set(batches.map(({ topic }) => topic))])
  }
}
