import type { RawClient } from './raw-client.ts'
import { data, defaultWindowBytes, flag, frameHeadBytes, frameType, maxFrameBytes, setting } from './raw-frames.ts'

/** What a client may send by the server's SETTINGS and WINDOW_UPDATEs (RFC 9113, section 6.9), and waits for. */
export class SendWindows {
  readonly #client: RawClient
  /** Bytes of DATA sent, by stream; 0 is the connection. */
  readonly #sent = new Map<number, number>()

  constructor(client: RawClient) {
    this.#client = client
  }

  /** The request's body and its end, in frames as large as may be. */
  async send(streamId: number, body: Buffer): Promise<void> {
    for (let at = 0; at < body.length; at += maxFrameBytes) {
      const end = at + maxFrameBytes
      await this.sendFrame(streamId, data(streamId, body.subarray(at, end), end >= body.length ? flag.endStream : 0))
    }
  }

  /** One DATA frame, once both windows allow for it; or at once, where the stream has been reset. */
  async sendFrame(streamId: number, frame: Buffer): Promise<void> {
    const bytes = frame.length - frameHeadBytes
    const isReset = (): boolean => this.#client.framesOf(streamId, frameType.rstStream).length > 0
    const fits = (): boolean => this.#left(streamId) >= bytes && this.#left(0) >= bytes
    await this.#client.until(`window for ${bytes} bytes on stream ${streamId}`, () => isReset() || fits())
    if (isReset()) return
    for (const id of [0, streamId]) this.#sent.set(id, this.#sentOn(id) + bytes)
    await this.#client.sendThrough(frame)
  }

  #sentOn(streamId: number): number {
    return this.#sent.get(streamId) ?? 0
  }

  #left(streamId: number): number {
    const initial = streamId === 0 ? defaultWindowBytes : this.#initialBytes()
    const given = this.#client.framesOf(streamId, frameType.windowUpdate).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)
    return initial + given - this.#sentOn(streamId)
  }

  /** Of the server's SETTINGS, which come before all else. */
  #initialBytes(): number {
    let bytes = defaultWindowBytes
    for (const { type, payload } of this.#client.frames) {
      if (type !== frameType.settings) continue
      for (let at = 0; at < payload.length; at += 6)
        if (payload.readUInt16BE(at) === setting.initialWindowSize) bytes = payload.readUInt32BE(at + 2)
    }
    return bytes
  }
}
