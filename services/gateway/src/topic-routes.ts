import type { Bus } from '@spillway/bus'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Calls, NewEvent } from './calls.ts'
import type { Catalog } from './catalog.ts'
import { binaryCloudEvent, isBinaryCloudEvent, structuredCloudEvent } from './cloud-events.ts'
import { elementSlices, lineSlices, parseJson } from './json-slices.ts'
import { admitted, bodyBytes, mediaType, traced, traceHeaders, unsupported } from './request.ts'

const taken = ['application/json', 'application/x-ndjson', 'application/cloudevents+json', 'application/cloudevents-batch+json']
const jsonHeaders = { 'content-type': 'application/json' }

export interface TopicRoutesOptions {
  readonly catalog: Catalog
  readonly bus: Bus
  readonly calls: Calls
  readonly telemetry: Telemetry
}

/** What is served, and `POST /v1/topics/{topic}/events`. */
export function topicRoutes(app: FastifyInstance, { catalog, bus, calls, telemetry }: TopicRoutesOptions): void {
  app.get('/v1/pipelines', () => ({
    pipelines: Array.from(catalog.pipelines.values(), ({ name, inputTopics, topics }) => ({ name, inputTopics, topics })),
  }))

  app.get('/v1/topics', async () => {
    const described = await Promise.all(catalog.topics.map((name) => bus.topics.describe(name)))
    const topics = described.filter((topic) => topic !== undefined)
    return { topics: topics.map(({ name, partitions }) => ({ name, partitions, input: catalog.isInput(name) })) }
  })

  app.post<{ Params: { topic: string }; Querystring: { key?: string | string[] } }>(
    '/v1/topics/:topic/events',
    admitted(calls),
    (request, reply) =>
      traced(telemetry, request, reply, async () => {
        catalog.reader(request.params.topic)
        const key = recordKey(request)
        const events = readEvents(request).map((event) => (key === undefined ? event : { ...event, key }))
        const positions = await calls.publish(request.params.topic, events, traceHeaders(request))
        // Offsets are 64 bits wide: text, as in the JSON mapping of Protocol Buffers.
        return { positions: positions.map(({ partition, offset }) => ({ partition, offset: offset.toString() })) }
      }),
  )
}

function recordKey(request: FastifyRequest<{ Querystring: { key?: string | string[] } }>): Uint8Array | undefined {
  const key = request.query.key ?? request.headers['x-spillway-key']
  if (Array.isArray(key))
    throw new MeshError('INVALID_ARGUMENT', 'one key for all events of a call: it is given more than once', { field: 'key' })
  return key === undefined ? undefined : Buffer.from(key)
}

/** The events of the body, byte for byte. @throws MeshError INVALID_ARGUMENT, HttpError 415 */
function readEvents(request: FastifyRequest): NewEvent[] {
  const type = mediaType(request)
  const body = bodyBytes(request)
  if (isBinaryCloudEvent(request.headers)) return [binaryCloudEvent(request.headers, body)]
  switch (type) {
    case 'application/json': {
      const { bytes, value } = parseJson(body, 'the body')
      return (Array.isArray(value) ? elementSlices(bytes) : [bytes]).map((event) => ({ value: event, headers: jsonHeaders }))
    }
    case 'application/x-ndjson':
      return lineSlices(body).map((event) => ({ value: event, headers: jsonHeaders }))
    case 'application/cloudevents+json':
      return [structuredCloudEvent(parseJson(body, 'the body'))]
    case 'application/cloudevents-batch+json': {
      const { bytes, value } = parseJson(body, 'the body')
      if (!Array.isArray(value)) throw new MeshError('INVALID_ARGUMENT', 'a batch of CloudEvents is a JSON array')
      return elementSlices(bytes).map((event, row) => structuredCloudEvent({ bytes: event, value: value[row] as unknown }))
    }
    default:
      return unsupported(type, taken)
  }
}
