import { MeshError } from '@spillway/core'
import type { Outgoing } from './lane.ts'

/** What is kept of each: stream, subject, headers, payload, each behind its length in 4 bytes, little-endian. */
const fields = 4

export function encodeOutbox(outputs: readonly Omit<Outgoing, 'id'>[]): Buffer {
  const parts: Uint8Array[] = []
  const add = (bytes: Uint8Array): void => {
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32LE(bytes.length)
    parts.push(length, bytes)
  }
  for (const { stream, subject, headers, payload } of outputs) {
    for (const text of [stream, subject, headers]) add(Buffer.from(text))
    add(payload)
  }
  return Buffer.concat(parts)
}

/** @param token what the ids begin with @throws MeshError DATA_LOSS */
export function decodeOutbox(bytes: Uint8Array, token: string): Outgoing[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const outputs: Outgoing[] = []
  for (let at = 0; at < view.length;) {
    const parts: Buffer[] = []
    for (let i = 0; i < fields; i++) {
      const end = at + 4 <= view.length ? at + 4 + view.readUInt32LE(at) : Infinity
      if (end > view.length) throw new MeshError('DATA_LOSS', 'outputs that were committed with a position cannot be read')
      parts.push(view.subarray(at + 4, end))
      at = end
    }
    const [stream, subject, headers, payload] = parts as [Buffer, Buffer, Buffer, Buffer]
    outputs.push({
      stream: stream.toString(),
      subject: subject.toString(),
      headers: headers.toString(),
      payload,
      id: `${token}.${outputs.length}`,
    })
  }
  return outputs
}
