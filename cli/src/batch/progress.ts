import type { ReplayProgress } from '@spillway/bus'

const plainEveryMs = 5000

export interface Progress {
  /** Events answered, in all runs. */
  readonly records: number
  /** Of all that there is to do, 0 to 1. */
  readonly share: number
}

/** Shows how far a batch run is, on standard error: a line that changes on a terminal, one every few seconds elsewhere. */
export class ProgressLine {
  private readonly startedMs = performance.now()
  private readonly live = process.stderr.isTTY
  /** What the run had done already when it was gone on with. */
  private first: { readonly records: number; readonly share: number } | undefined
  private shownMs = -Infinity

  /** The first call says where the run begins. @param facts what else there is to be said, as `rows 1,000` */
  show({ records, share }: Progress, facts: readonly string[]): void {
    const nowMs = performance.now()
    if (this.first === undefined) {
      this.first = { records, share }
      if (share < 1) return
    }
    if (!this.live && nowMs - this.shownMs < plainEveryMs && share < 1) return
    this.shownMs = nowMs
    const seconds = (nowMs - this.startedMs) / 1000
    const rate = Math.round((records - this.first.records) / Math.max(seconds, 0.001))
    const gained = share - this.first.share
    const left = gained > 0 && share < 1 ? `, ${durationText((seconds / gained) * (1 - share))} left` : ''
    const text = [`${(share * 100).toFixed(1)} %, ${numberText(records)} events (${numberText(rate)}/s${left})`, ...facts].join(' | ')
    process.stderr.write(this.live ? `\r\u001b[K${text}` : `${text}\n`)
  }

  /** Lets the line stand. */
  end(): void {
    if (this.live && this.shownMs > 0) process.stderr.write('\n')
  }

  get seconds(): number {
    return (performance.now() - this.startedMs) / 1000
  }
}

/** Of all partitions alike: how large each one is, is not known of files. */
export function replayProgress({ records, partitions }: ReplayProgress): Progress {
  if (partitions.length === 0) return { records, share: 1 }
  return { records, share: partitions.reduce((sum, { share }) => sum + share, 0) / partitions.length }
}

export function numberText(value: number): string {
  return value.toLocaleString('en-US')
}

function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
