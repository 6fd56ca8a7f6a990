import type { Msg } from '@nats-io/transport-node'
import { MeshError } from '@spillway/core'
import { codeOfApi } from './errors.ts'
import type { WireRecord } from './messages.ts'

/** A message to be stored once: sent again with its id it is recognised. */
export interface Outgoing extends WireRecord {
  readonly subject: string
  readonly stream: string
  readonly id: string
}

/** In flight on a stream, at most. */
const maxInFlight = 512
const maxInFlightBytes = 4 << 20

/** What one call gave to be stored. */
export interface Job {
  readonly sequences: number[]
  readonly done: PromiseWithResolvers<readonly number[]>
  readonly endMs: number
  left: number
  over: boolean
}

/** A message on its way. */
export interface Parcel {
  readonly outgoing: Outgoing
  readonly job: Job
  readonly index: number
  readonly token: string
  settled: boolean
  /** When it may have been sent first, by whomever; ms since the epoch. */
  sinceMs: number
  sentMs: number
}

/** What goes to one stream, in order. */
export interface Lane {
  readonly stream: string
  queue: Parcel[]
  head: number
  readonly inFlight: Map<string, Parcel>
  inFlightBytes: number
  failures: number
  /** Nothing is sent: it failed, and what is in doubt is looked at before it is sent again. */
  held: boolean
  error: MeshError | undefined
  /** For how long the stream recognises an id; undefined until it was asked. */
  windowMs: number | undefined
}

export function emptyLane(stream: string): Lane {
  return {
    stream,
    queue: [],
    head: 0,
    inFlight: new Map(),
    inFlightBytes: 0,
    failures: 0,
    held: false,
    error: undefined,
    windowMs: undefined,
  }
}

/** The first message of the queue, taken out of it. */
export function shift(lane: Lane): Parcel {
  const parcel = lane.queue[lane.head++]!
  if (lane.head > 1024 && lane.head * 2 > lane.queue.length) {
    lane.queue = lane.queue.slice(lane.head)
    lane.head = 0
  }
  return parcel
}

/** Nothing more is sent, and what is in flight goes to the front again, in order. */
export function hold(lane: Lane): void {
  lane.held = true
  lane.queue = [...lane.inFlight.values(), ...lane.queue.slice(lane.head)]
  lane.head = 0
  lane.inFlight.clear()
  lane.inFlightBytes = 0
}

/** Whether it may have been sent first so long ago that its id might soon be forgotten: then it is looked for before it is sent. */
export function isDoubtful({ windowMs = 0 }: Lane, { sinceMs, settled, job }: Parcel): boolean {
  return sinceMs !== Infinity && !settled && !job.over && Date.now() - sinceMs > windowMs / 2
}

export function hasRoom({ inFlight, inFlightBytes }: Lane, { outgoing }: Parcel): boolean {
  return inFlight.size === 0 || (inFlight.size < maxInFlight && inFlightBytes + outgoing.payload.length <= maxInFlightBytes)
}

/** Headers that are bytes already: of `MsgHdrs` the client's `publish` calls nothing but `encode` (nats-core, protocol.js). */
export class EncodedHeaders {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  encode(): Uint8Array {
    return Buffer.from(this.#text)
  }
}

interface PublishAnswer {
  readonly seq?: number
  readonly error?: { readonly code: number; readonly err_code: number; readonly description: string }
}

export function readAnswer(message: Msg): { readonly sequence: number } | { readonly error: MeshError } {
  if (message.headers?.code === 503)
    return { error: new MeshError('UNAVAILABLE', 'nobody stores this subject: the stream is gone, or not ready yet') }
  const { seq, error } = message.json<PublishAnswer>()
  if (error !== undefined) return { error: new MeshError(codeOfApi(error.err_code, error.code), error.description) }
  return seq === undefined ? { error: new MeshError('UNAVAILABLE', 'an acknowledgement without a sequence') } : { sequence: seq }
}
