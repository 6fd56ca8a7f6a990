import { type Batch, sliceBatch } from '@spillway/core'
import { encodeFrame, type FrameInfo } from './frame.ts'

export interface SplitFrames {
  /** In the order of the rows, each at most `maxBytes`. None for a batch without rows. */
  readonly frames: Uint8Array[]
  /** Rows of the batch that alone exceed `maxBytes`, ascending; they are in no frame. */
  readonly oversize: number[]
}

/** How much of the limit a part is cut to fill, so that uneven rows seldom need a second cut. */
const fill = 0.9

/** A batch as frames below a broker's record limit. Most batches fit one, so that one is tried first and cut by its size where it does not. */
export function splitFrames(batch: Batch, info: FrameInfo, maxBytes: number): SplitFrames {
  const split: SplitFrames = { frames: [], oversize: [] }
  addRows(0, batch.rowCount)
  return split

  function addRows(start: number, end: number): void {
    if (start === end) return
    const frame = encodeFrame(sliceBatch(batch, start, end), info)
    const rows = end - start
    if (frame.byteLength <= maxBytes) {
      split.frames.push(frame)
    } else if (rows === 1) {
      split.oversize.push(start)
    } else {
      const parts = Math.min(rows, Math.max(2, Math.ceil(frame.byteLength / (maxBytes * fill))))
      for (let part = 0; part < parts; part++)
        addRows(start + Math.floor((rows * part) / parts), start + Math.floor((rows * (part + 1)) / parts))
    }
  }
}
