import { textAt } from '@spillway/core'
import type { Logger } from 'pino'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { MeshError } from '@spillway/core'
import type { OpenSubscription, PositionedSlice, Subscriptions, SubscriptionStart } from './subscriptions.ts'

const heartbeatMs = 15_000
/** A client that takes nothing for this long is cut: it may resume. */
const stallMs = 60_000

export interface EventStreamOptions {
  readonly subscriptions: Subscriptions
  /** Fires at drain. */
  readonly closing: AbortSignal
  readonly logger: Logger
}

type StreamRequest = FastifyRequest<{ Params: { topic: string }; Querystring: { from?: string } }>

/**
 * `GET /v1/topics/{topic}/events` as server-sent events (HTML Living Standard, 9.2): `id` is the position behind the event, `event` its
 * CloudEvents type or the topic, `data` the record's value. The first block has an `id` alone, so that a client that lost its connection before the
 * first event misses nothing either.
 */
export function eventStreamRoutes(app: FastifyInstance, options: EventStreamOptions): void {
  app.get<{ Params: { topic: string }; Querystring: { from?: string } }>('/v1/topics/:topic/events', async (request, reply) => {
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    const signal = AbortSignal.any([gone.signal, options.closing])
    const subscription = await options.subscriptions.open(request.params.topic, startOf(request), signal)
    await stream(request, reply, subscription, signal, options.logger)
  })
}

function startOf(request: StreamRequest): SubscriptionStart {
  const last = request.headers['last-event-id']
  if (typeof last === 'string' && last !== '') return { kind: 'after', position: last, field: 'Last-Event-ID' }
  const from = request.query.from ?? 'latest'
  if (from !== 'latest' && from !== 'earliest')
    throw new MeshError('INVALID_ARGUMENT', `"${from}" is no start: write from=latest or from=earliest`, { field: 'from' })
  return { kind: from }
}

async function stream(
  request: StreamRequest,
  reply: FastifyReply,
  subscription: OpenSubscription,
  signal: AbortSignal,
  logger: Logger,
): Promise<void> {
  reply.hijack()
  const { raw } = reply
  raw.writeHead(200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    connection: 'close',
    // Asks reverse proxies not to hold events back.
    'x-accel-buffering': 'no',
  })
  raw.write(`retry: 1000\nid: ${subscription.position}\n\n`)
  const heartbeat = setInterval(() => {
    if (!raw.writableNeedDrain) raw.write(': heartbeat\n\n')
  }, heartbeatMs)
  try {
    for await (const slice of subscription.slices) {
      if (!raw.write(eventBlocks(request.params.topic, slice))) await drained(raw, signal)
    }
  } catch (error) {
    if (!signal.aborted) logger.warn({ err: error, topic: request.params.topic }, 'an event stream ended early; its client may resume')
  } finally {
    clearInterval(heartbeat)
    subscription.close()
    raw.end()
  }
}

/** Resolves when the socket takes more. @throws where the client is gone or takes nothing for too long. */
async function drained(raw: ServerResponse, signal: AbortSignal): Promise<void> {
  const stalled = setTimeout(() => raw.destroy(), stallMs)
  try {
    await once(raw, 'drain', { signal })
  } finally {
    clearTimeout(stalled)
  }
}

function eventBlocks(topic: string, { slice, positions }: PositionedSlice): string {
  const { values, headers } = slice.records
  let blocks = ''
  for (const [row, position] of positions.entries()) {
    const type = headers?.[row]?.['ce_type'] ?? topic
    // A line break of any kind would end the field.
    const data = textAt(values, row).replaceAll(/\r\n|\r|\n/g, '\ndata: ')
    blocks += `id: ${position}\nevent: ${type.replaceAll(/[\r\n]/g, ' ')}\ndata: ${data}\n\n`
  }
  return blocks
}
