/** RFC 9113, section 6. */
export const frameType = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const

export const flag = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const

/** RFC 9113, section 7. */
export const errorCodes = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
] as const

export type ErrorCode = (typeof errorCodes)[number]

/** RFC 9113, section 6.5.2. */
export const setting = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
} as const

/** RFC 9113, section 3.4. */
export const preface: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
export const frameHeadBytes = 9
/** What a frame may hold while no setting says otherwise. */
export const maxFrameBytes = 16_384
/** A window while no setting says otherwise. */
export const defaultWindowBytes = 65_535
export const maxWindowBytes: number = 2 ** 31 - 1

const nothing = Buffer.alloc(0)

/** `length` is what the head says, where it is to lie. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = nothing,
  length: number = payload.length,
): Buffer {
  const bytes = Buffer.alloc(frameHeadBytes + payload.length)
  bytes.writeUIntBE(length, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(streamId, 5)
  bytes.set(payload, frameHeadBytes)
  return bytes
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export type Setting = readonly [id: number, value: number]

export function settings(...entries: readonly Setting[]): Buffer {
  const payload = Buffer.alloc(6 * entries.length)
  for (const [index, [id, value]] of entries.entries()) {
    payload.writeUInt16BE(id, 6 * index)
    payload.writeUInt32BE(value, 6 * index + 2)
  }
  return frame(frameType.settings, 0, 0, payload)
}

export const settingsAck: Buffer = frame(frameType.settings, flag.ack, 0)

export function headers(streamId: number, block: Uint8Array, flags: number = flag.endHeaders): Buffer {
  return frame(frameType.headers, flags, streamId, block)
}

export function continuation(streamId: number, block: Uint8Array, flags: number = flag.endHeaders): Buffer {
  return frame(frameType.continuation, flags, streamId, block)
}

export function data(streamId: number, bytes: Uint8Array, flags = 0): Buffer {
  return frame(frameType.data, flags, streamId, bytes)
}

/** The last DATA of its stream. */
export function lastData(streamId: number, bytes: Uint8Array): Buffer {
  return data(streamId, bytes, flag.endStream)
}

/** @param opaque 8 characters. */
export function ping(opaque: string, flags = 0): Buffer {
  return frame(frameType.ping, flags, 0, Buffer.from(opaque))
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(frameType.windowUpdate, 0, streamId, uint32(increment))
}

export function resetStream(streamId: number, code: ErrorCode = 'CANCEL'): Buffer {
  return frame(frameType.rstStream, 0, streamId, uint32(errorCodes.indexOf(code)))
}

export function goaway(lastStreamId: number, code: ErrorCode = 'NO_ERROR', debug = ''): Buffer {
  return frame(frameType.goaway, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(errorCodes.indexOf(code)), Buffer.from(debug)]))
}

/** The stream that a stream depends on, and a weight: what PRIORITY holds, and HEADERS with the priority flag begins with. */
export function dependency(streamId: number): Buffer {
  return Buffer.concat([uint32(streamId), Buffer.from([15])])
}

/** What a padded frame holds. */
export function padded(bytes: Uint8Array, paddingBytes: number): Buffer {
  return Buffer.concat([Buffer.from([paddingBytes]), bytes, Buffer.alloc(paddingBytes)])
}

export type Field = readonly [name: string, value: string]

/** RFC 7541, section 5.2, without Huffman's code. */
function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  const length: number[] = []
  if (bytes.length < 127) length.push(bytes.length)
  else {
    length.push(127)
    let rest = bytes.length - 127
    for (; rest >= 128; rest = rest >>> 7) length.push((rest & 127) | 128)
    length.push(rest)
  }
  return Buffer.concat([Buffer.from(length), bytes])
}

/** "Literal Header Field without Indexing" (RFC 7541, section 6.2.2), each. */
export function fieldBlock(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.from([0x00]), literal(name), literal(value)])))
}

/** "Literal Header Field with Incremental Indexing" (RFC 7541, section 6.2.1): the newest entry of the dynamic table, which 0xbe then names. */
export function indexedField([name, value]: Field): Buffer {
  return Buffer.concat([Buffer.from([0x40]), literal(name), literal(value)])
}
