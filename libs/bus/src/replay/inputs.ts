import { MeshError } from '@spillway/core'
import type { CheckpointInput } from './checkpoint.ts'
import { ReplayLane } from './replay-lane.ts'
import type { ReplayInput, ReplaySource } from './replay-source.ts'

/** An input with its partitions, at the positions where they are gone on with. */
export interface OpenInput {
  readonly identity: string
  readonly lanes: readonly ReplayLane[]
}

/** By topic. @throws MeshError FAILED_PRECONDITION where the checkpoint is of other inputs */
export async function openInputs(
  sources: readonly ReplaySource[],
  checkpoint: readonly CheckpointInput[] | undefined,
  path: string | undefined,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, OpenInput>> {
  const topics = (of: readonly { readonly topic: string }[]): string =>
    of
      .map(({ topic }) => topic)
      .toSorted()
      .join(', ')
  if (checkpoint !== undefined && topics(checkpoint) !== topics(sources))
    throw otherInputs(path, `it reads ${topics(checkpoint)}, this run ${topics(sources)}`)
  const inputs = new Map<string, OpenInput>()
  for (const source of sources) {
    const resumed = checkpoint?.find(({ topic }) => topic === source.topic)
    const input = await source.open(resumed === undefined ? undefined : asInput(resumed), signal)
    if (resumed !== undefined) checkSame(source.topic, input, resumed, path)
    inputs.set(source.topic, {
      identity: input.identity,
      lanes: input.partitions.map((range, index) => new ReplayLane(source, range, resumed?.partitions[index])),
    })
  }
  return inputs
}

function asInput({ identity, partitions }: CheckpointInput): ReplayInput {
  return {
    identity,
    partitions: partitions.map(({ partition, from, end }) => ({
      partition,
      from: BigInt(from),
      end: end === null ? undefined : BigInt(end),
    })),
  }
}

function checkSame(topic: string, { identity, partitions }: ReplayInput, found: CheckpointInput, path: string | undefined): void {
  if (identity !== found.identity) throw otherInputs(path, `for "${topic}" it reads ${found.identity}, this run ${identity}`)
  const ranges = partitions.map(({ partition, from, end }) => `${partition}: ${from} to ${end ?? 'the end'}`).join(', ')
  const before = found.partitions.map(({ partition, from, end }) => `${partition}: ${from} to ${end ?? 'the end'}`).join(', ')
  if (ranges !== before) throw otherInputs(path, `of "${topic}" it reads partitions ${before}, this run ${ranges}`)
}

function otherInputs(path: string | undefined, how: string): MeshError {
  return new MeshError(
    'FAILED_PRECONDITION',
    `the checkpoint ${path} is of other inputs: ${how}; give the run its own checkpoint, or delete this one and what was written with it`,
  )
}
