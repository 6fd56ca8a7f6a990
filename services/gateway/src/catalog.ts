import { MeshError } from '@spillway/core'
import type { GatewayPipeline } from '@spillway/mesh'

/** What is served, by name. */
export class Catalog {
  readonly pipelines: ReadonlyMap<string, GatewayPipeline>
  readonly #topics: ReadonlySet<string>
  /** The pipeline that an input topic feeds; the first where several read it. */
  readonly #readers = new Map<string, GatewayPipeline>()

  constructor(pipelines: readonly GatewayPipeline[]) {
    this.pipelines = new Map(pipelines.map((pipeline) => [pipeline.name, pipeline]))
    this.#topics = new Set(pipelines.flatMap((pipeline) => pipeline.topics))
    for (const pipeline of pipelines) {
      for (const topic of pipeline.inputTopics) if (!this.#readers.has(topic)) this.#readers.set(topic, pipeline)
    }
  }

  get topics(): readonly string[] {
    return [...this.#topics]
  }

  isInput(topic: string): boolean {
    return this.#readers.has(topic)
  }

  /** @throws MeshError NOT_FOUND */
  pipeline(name: string): GatewayPipeline {
    const found = this.pipelines.get(name)
    if (found === undefined)
      throw new MeshError('NOT_FOUND', `no pipeline "${name}" is served here (there are: ${[...this.pipelines.keys()].join(', ')})`)
    return found
  }

  /** @throws MeshError NOT_FOUND for a topic that may not be read. */
  assertTopic(topic: string): void {
    if (!this.#topics.has(topic))
      throw new MeshError('NOT_FOUND', `no topic "${topic}" is served here (there are: ${this.topics.join(', ')})`)
  }

  /** The pipeline that reads the topic. @throws MeshError NOT_FOUND for an unknown topic, PERMISSION_DENIED for one that pipelines write. */
  reader(topic: string): GatewayPipeline {
    const found = this.#readers.get(topic)
    if (found !== undefined) return found
    this.assertTopic(topic)
    throw new MeshError(
      'PERMISSION_DENIED',
      `"${topic}" is written by its pipeline alone: publish to ${[...this.#readers.keys()].join(', ')}`,
    )
  }
}
