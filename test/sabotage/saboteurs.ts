import type {
  Bus,
  Handler,
  Outputs,
  ProcessOptions,
  Processor,
  RecordPosition,
  Records,
  Slice,
  Subscription,
  TopicAdmin,
} from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { FeaturePlan, HistoryRead, HistoryStore, HistoryWrite, Owner, PackedHistory } from '@spillway/features'

/** What becomes of a slice's outputs in the hands of a bus that does not keep its promise. */
export type Mishandling = (slice: Slice, outputs: Outputs, bus: Bus) => Promise<Outputs> | Outputs

/** A bus whose `process` hands each slice's outputs to `mishandle` instead of committing them with the slice's position. */
export class MishandlingBus implements Bus {
  readonly name: Bus['name']
  readonly guarantee: Bus['guarantee']
  readonly maxRecordBytes: number
  readonly topics: TopicAdmin
  private readonly bus: Bus
  private readonly mishandle: Mishandling

  constructor(bus: Bus, mishandle: Mishandling) {
    this.name = bus.name
    this.guarantee = bus.guarantee
    this.maxRecordBytes = bus.maxRecordBytes
    this.topics = bus.topics
    this.bus = bus
    this.mishandle = mishandle
  }

  start(signal: AbortSignal): Promise<void> {
    return this.bus.start(signal)
  }

  drain(): Promise<void> {
    return this.bus.drain()
  }

  publish(topic: string, records: Records, partition?: number): Promise<readonly RecordPosition[]> {
    return this.bus.publish(topic, records, partition)
  }

  subscribe(subscription: Subscription): AsyncIterable<Slice> {
    return this.bus.subscribe(subscription)
  }

  process(options: ProcessOptions, handle: Handler): Processor {
    return this.bus.process(options, async (slice, signal, attempt) =>
      this.mishandle(slice, await handle(slice, signal, attempt), this.bus),
    )
  }
}

/** True at the `at`-th call for which `matters` holds, and only then. */
function once(at: number): (matters: boolean) => boolean {
  let seen = 0
  return (matters) => matters && ++seen === at
}

function predicts(outputs: Outputs): boolean {
  return outputs.writes.some(({ topic }) => topic.endsWith('.predictions'))
}

/** Outputs and position are not one transaction: outputs are published on their own, and one slice fails before its position is stored. */
export function withoutTransactions(failingSlice: number): (bus: Bus) => Bus {
  const fails = once(failingSlice)
  return (inner) =>
    new MishandlingBus(inner, async (_slice, outputs, bus) => {
      for (const { topic, records } of outputs.writes) await bus.publish(topic, records)
      if (fails(predicts(outputs))) throw new MeshError('UNAVAILABLE', 'the connection broke before the position was stored')
      return { ...outputs, writes: [] }
    })
}

/** The position is stored first, and one slice's outputs die with the process that holds them. */
export function committingEarly(crashingSlice: number): (bus: Bus) => Bus {
  const crashes = once(crashingSlice)
  return (inner) => new MishandlingBus(inner, (_slice, outputs) => (crashes(predicts(outputs)) ? { ...outputs, writes: [] } : outputs))
}

/** Outputs of one slice land behind those of the partition's next. */
export function overtaking(delayedSlice: number): (bus: Bus) => Bus {
  const delays = once(delayedSlice)
  let held: { partition: number; outputs: Outputs } | undefined
  return (inner) =>
    new MishandlingBus(inner, (slice, outputs) => {
      if (delays(predicts(outputs))) {
        held = { partition: slice.partition, outputs }
        return { ...outputs, writes: [] }
      }
      if (held?.partition !== slice.partition || !predicts(outputs)) return outputs
      const writes = [...outputs.writes, ...held.outputs.writes]
      held = undefined
      return { ...outputs, writes }
    })
}

/** A store that loses one key's entries of one `append`, without a word. */
export class ForgetfulStore implements HistoryStore {
  private readonly store: HistoryStore
  private readonly forgets: (matters: boolean) => boolean
  private readonly history: string

  /** @param title the history's name in the pipeline file */
  constructor(store: HistoryStore, plan: FeaturePlan, title: string, forgottenAppend: number) {
    this.store = store
    this.history = plan.histories.find((history) => history.title === title)!.name
    this.forgets = once(forgottenAppend)
  }

  start(signal: AbortSignal): Promise<void> {
    return this.store.start(signal)
  }

  drain(): Promise<void> {
    return this.store.drain()
  }

  read(reads: readonly HistoryRead[]): Promise<readonly (readonly PackedHistory[])[]> {
    return this.store.read(reads)
  }

  append(writes: readonly HistoryWrite[]): Promise<void> {
    const own = writes.find(({ history }) => history.name === this.history)
    return this.store.append(this.forgets(own !== undefined) ? writes.filter((write) => write !== own) : writes)
  }

  origin(topic: string, partition: number): Promise<number> {
    return this.store.origin(topic, partition)
  }

  release(owner: Owner): void {
    this.store.release(owner)
  }

  get scope(): HistoryStore['scope'] {
    return this.store.scope
  }

  get identity(): string {
    return this.store.identity
  }
}
