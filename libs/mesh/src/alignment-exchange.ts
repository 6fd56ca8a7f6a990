import { setTimeout as wait } from 'node:timers/promises'
import { type Component, MeshError } from '@spillway/core'
import type { WatermarkBoard } from '@spillway/features'
import type { Telemetry } from '@spillway/telemetry'
import type { Alignment } from './alignment.ts'

const workingPeriodMs = 100
/** Well within what a beat holds for: an idle lane stays known as one. */
const idlePeriodMs = 500

/**
 * Tells the other processes how far this one's partitions have come, and takes in how far theirs have. While the board is away what was
 * known stays: rows wait for what they would run ahead of.
 */
export class AlignmentExchange implements Component {
  private readonly alignment: Alignment
  private readonly board: WatermarkBoard
  private readonly logger: Telemetry['logger']
  private readonly stopping = new AbortController()
  private running: Promise<void> | undefined
  private away = false
  private begun = false

  constructor(options: { readonly alignment: Alignment; readonly board: WatermarkBoard; readonly logger: Telemetry['logger'] }) {
    this.alignment = options.alignment
    this.board = options.board
    this.logger = options.logger
  }

  start(): Promise<void> {
    this.running = this.run()
    return Promise.resolve()
  }

  async drain(): Promise<void> {
    this.stopping.abort()
    await this.running
  }

  /** One exchange. The first only listens: what this process does not know yet must not stand in the place of what another knew. */
  async exchange(): Promise<void> {
    try {
      this.alignment.learn(await this.board.exchange(this.begun ? this.alignment.reports() : []))
      this.begun = true
      if (this.away) this.logger.info('event times are told among the processes again')
      this.away = false
    } catch (thrown) {
      const reason = MeshError.from(thrown).message
      if (!this.away) this.logger.warn({ reason }, 'event times cannot be told among the processes: inputs wait for each other')
      this.away = true
    }
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping
    while (!signal.aborted) {
      await this.exchange()
      await this.pause(workingPeriodMs)
      if (!signal.aborted && this.alignment.idle) await Promise.race([this.alignment.changed, this.pause(idlePeriodMs - workingPeriodMs)])
    }
  }

  private async pause(delayMs: number): Promise<void> {
    // Rejects with nothing but the end of the work.
    await wait(delayMs, undefined, { signal: this.stopping.signal, ref: false }).catch(() => undefined)
  }
}
