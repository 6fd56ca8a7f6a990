import type { RpcCall } from './call.ts'

export interface UnaryRpc {
  readonly kind: 'unary'
  readonly handle: (request: never, call: RpcCall) => Promise<unknown>
}

export interface ServerStreamRpc {
  readonly kind: 'serverStream'
  readonly handle: (request: never, call: RpcCall) => AsyncIterable<unknown>
}

export interface BidiStreamRpc {
  readonly kind: 'bidiStream'
  readonly handle: (requests: AsyncIterable<never>, call: RpcCall) => AsyncIterable<unknown>
}

export type RpcHandler = UnaryRpc | ServerStreamRpc | BidiStreamRpc

/** One request, one response. A MeshError becomes its gRPC status; anything else is INTERNAL and logged. */
export function unaryHandler<Request, Response>(handle: (request: Request, call: RpcCall) => Promise<Response>): UnaryRpc {
  return { kind: 'unary', handle }
}

/**
 * One request, a stream of responses, ended by the iterable's end. The next response is asked for only when HTTP/2 flow control has room;
 * when `call.signal` fires the iterable is returned (its `finally` blocks run).
 */
export function serverStreamHandler<Request, Response>(
  handle: (request: Request, call: RpcCall) => AsyncIterable<Response>,
): ServerStreamRpc {
  return { kind: 'serverStream', handle }
}

/**
 * A stream of requests, read only as fast as the handler takes them, and a stream of responses as `serverStreamHandler` has it; a request that is not of the
 * method's type ends both.
 */
export function bidiStreamHandler<Request, Response>(
  handle: (requests: AsyncIterable<Request>, call: RpcCall) => AsyncIterable<Response>,
): BidiStreamRpc {
  return { kind: 'bidiStream', handle }
}
