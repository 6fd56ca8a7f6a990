/** RFC 9113, 6: the types of frames. */
export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const

export const flags = { endStream: 0x1, acknowledgement: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const

/** RFC 9113, 6.5.2. */
export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const

/** RFC 9113, 7. */
export const errorCode = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  refusedStream: 7,
  cancel: 8,
  compression: 9,
  enhanceYourCalm: 11,
} as const

export const frameHeadBytes = 9
/** RFC 9113, 6.5.1: a name and a value. */
export const settingBytes = 6
/** What a frame carries at most where its receiver has not said otherwise (SETTINGS_MAX_FRAME_SIZE). */
export const defaultFrameBytes = 16_384
/** What may be sent, of DATA, on a connection and on a stream, before the receiver says more. */
export const defaultWindowBytes = 65_535
export const mostWindowBytes = 0x7fff_ffff

/** RFC 9113, 3.4: what a client's connection begins with. */
export const preface: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** The connection is at fault: it is ended with this code. */
export class ConnectionError extends Error {
  readonly code: number

  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}
