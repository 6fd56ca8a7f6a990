import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { RpcHandler } from './handler.ts'

/** A method as a server serves it. */
export interface ServedMethod<Handler extends RpcHandler = RpcHandler> {
  /** `/package.Service/Method` */
  readonly path: string
  readonly rpc: Handler
  readonly read: (bytes: Buffer) => unknown
  readonly write: (response: unknown) => Uint8Array
  /** Limit of a message in and out. */
  readonly maxMessageBytes: number
  readonly telemetry: Telemetry
}

/** @throws MeshError INVALID_ARGUMENT where the bytes are not of the method's type */
export function readRequest({ path, read }: ServedMethod, bytes: Buffer): never {
  try {
    return read(bytes) as never
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${path}: the request is not of the method's type: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** A response as it is sent. @throws MeshError RESOURCE_EXHAUSTED where it is larger than may be */
export function writeResponse({ write, maxMessageBytes }: ServedMethod, response: unknown): Buffer {
  const message = write(response)
  if (message.length > maxMessageBytes)
    throw new MeshError('RESOURCE_EXHAUSTED', `Sent message larger than max (${message.length} vs. ${maxMessageBytes})`)
  const prefixed = Buffer.allocUnsafe(prefixBytes + message.length)
  prefixed[0] = 0
  prefixed.writeUInt32BE(message.length, 1)
  prefixed.set(message, prefixBytes)
  return prefixed
}

/** Compressed flag and length (gRPC over HTTP2, "Length-Prefixed-Message"). */
export const prefixBytes = 5
