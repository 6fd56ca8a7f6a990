import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'

/**
 * Which part of its inputs' partitions a process has whose histories no other process sees. With less than all of them it must not go on: events
 * of a partition that another has would be missing from its histories, and nothing would tell.
 */
export class PartitionShare {
  private readonly segment: string
  private readonly partitions: number
  private readonly logger: Telemetry['logger']
  private readonly owned = new Set<string>()
  private told = false
  private closed = false
  private complete: PromiseWithResolvers<void> = Promise.withResolvers<void>()

  constructor(options: { readonly segment: string; readonly partitions: number; readonly logger: Telemetry['logger'] }) {
    this.segment = options.segment
    this.partitions = options.partitions
    this.logger = options.logger
  }

  /** Undefined before the first assignment too. */
  get problem(): string | undefined {
    if (!this.told || this.isWhole) return undefined
    return (
      `segment ${this.segment} has ${this.owned.size} of ${this.partitions} partitions, and its feature store is this process's alone: ` +
      'stop the other processes of its consumer group, or give all of them one store with --store redis://host:port'
    )
  }

  private get isWhole(): boolean {
    return this.owned.size === this.partitions
  }

  /** Partitions came, or went; one that is there already does not count twice. */
  change({ came = [], went = [] }: { readonly came?: readonly string[]; readonly went?: readonly string[] }): void {
    const wasWhole = this.isWhole
    for (const lane of came) this.owned.add(lane)
    for (const lane of went) this.owned.delete(lane)
    this.told = true
    if (this.isWhole) {
      this.complete.resolve()
      if (!wasWhole) this.logger.info({ segment: this.segment, partitions: this.partitions }, 'the segment has all partitions')
      return
    }
    if (wasWhole) this.complete = Promise.withResolvers<void>()
    if (this.closed || this.owned.size === 0) return
    this.logger.error(
      { segment: this.segment, owned: this.owned.size, partitions: this.partitions },
      `nothing is processed: ${this.problem}`,
    )
  }

  /** Ends every wait: what has to wait is left for the next start. */
  close(): void {
    this.closed = true
    this.complete.resolve()
  }

  /** Resolves once it has all partitions. @throws the signal's reason where it fires first, MeshError CANCELLED once closed */
  async whole(signal: AbortSignal): Promise<void> {
    while (!this.isWhole) {
      signal.throwIfAborted()
      if (this.closed) throw new MeshError('CANCELLED', 'the segment is stopping: the slice is offered again')
      const { promise: aborted, resolve } = Promise.withResolvers<void>()
      const stop = (): void => resolve()
      signal.addEventListener('abort', stop, { once: true })
      await Promise.race([this.complete.promise, aborted])
      signal.removeEventListener('abort', stop)
    }
  }
}
