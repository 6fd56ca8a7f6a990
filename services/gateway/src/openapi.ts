import { deadLetterPaths, deadLetterSchemas } from './openapi-dead-letters.ts'
import { errors, json, type JsonObject, ref, response } from './openapi-parts.ts'

const topicParameter: JsonObject = { name: 'topic', in: 'path', required: true, schema: { type: 'string' } }
const traceParameter: JsonObject = {
  name: 'traceparent',
  in: 'header',
  description: 'W3C Trace Context; carried on to all that the request causes.',
  schema: { type: 'string' },
}

const predict: JsonObject = {
  operationId: 'predict',
  summary: 'Runs events through a pipeline, read-only',
  description:
    'Features are read as of each event; nothing becomes history. Events are taken byte for byte, so that 64-bit integers stay exact. ' +
    'One event: the status is that of its result. Several: 200, with a prediction or an error each, in order.',
  parameters: [
    { name: 'name', in: 'path', required: true, description: 'The pipeline.', schema: { type: 'string' } },
    {
      name: 'x-spillway-timeout-ms',
      in: 'header',
      description:
        'The answer is wanted within this many ms (default 10,000); the cascade answers degraded rather than late. `grpc-timeout` is taken too.',
      schema: { type: 'integer', minimum: 1 },
    },
    traceParameter,
  ],
  requestBody: {
    required: true,
    content: {
      ...json({
        oneOf: [
          { type: 'object', required: ['event'], additionalProperties: false, properties: { event: { type: 'object' } } },
          {
            type: 'object',
            required: ['events'],
            additionalProperties: false,
            properties: { events: { type: 'array', items: { type: 'object' } } },
          },
        ],
      }),
      'application/x-ndjson': { schema: { type: 'string', description: 'One event a line; answered as `events` is.' } },
    },
  },
  responses: {
    '200': response('The prediction, or one result an event.', {
      oneOf: [ref('Prediction'), { type: 'object', properties: { results: { type: 'array', items: ref('Result') } } }],
    }),
    ...errors('400', '404', '413', '415', '429', '503', '504'),
  },
}

const publish: JsonObject = {
  operationId: 'publish',
  summary: 'Appends events to an input topic; answered when they are durable',
  description:
    'An event that the pipeline cannot read becomes a dead letter later; it is not refused here. Where the input names its key field, the ' +
    'record key is taken from the event, else from `key`, `x-spillway-key` or the CloudEvents attribute `partitionkey`. ' +
    'CloudEvents 1.0 are taken in binary mode too: attributes in `ce-` headers, the data as the body.',
  parameters: [
    topicParameter,
    {
      name: 'key',
      in: 'query',
      description: 'Record key of all events of this call; also as header `x-spillway-key`.',
      schema: { type: 'string' },
    },
    traceParameter,
  ],
  requestBody: {
    required: true,
    content: {
      ...json({ oneOf: [{ type: 'object' }, { type: 'array', items: { type: 'object' } }] }),
      'application/x-ndjson': { schema: { type: 'string', description: 'One event a line.' } },
      'application/cloudevents+json': { schema: { type: 'object' } },
      'application/cloudevents-batch+json': { schema: { type: 'array', items: { type: 'object' } } },
    },
  },
  responses: {
    '200': response('Where each event lies, in order.', {
      type: 'object',
      properties: {
        positions: {
          type: 'array',
          items: {
            type: 'object',
            properties: { partition: { type: 'integer' }, offset: { type: 'string', description: 'A 64-bit integer.' } },
          },
        },
      },
    }),
    ...errors('400', '403', '404', '413', '415', '429', '503'),
  },
}

const subscribe: JsonObject = {
  operationId: 'subscribe',
  summary: "Pushes a topic's records as server-sent events",
  description:
    "`id` is an opaque position that names every partition's place behind the event; sent back as `Last-Event-ID` it resumes there, without loss or " +
    'repeat. The first block holds an `id` alone. `event` is the CloudEvents type, else the topic; `data` the record. Comment lines every 15 s keep the connection.',
  parameters: [
    topicParameter,
    {
      name: 'from',
      in: 'query',
      description: 'Where to begin without a position.',
      schema: { type: 'string', enum: ['latest', 'earliest'], default: 'latest' },
    },
    { name: 'Last-Event-ID', in: 'header', schema: { type: 'string' } },
  ],
  responses: {
    '200': {
      description: 'The stream; ends when the gateway shuts down.',
      content: { 'text/event-stream': { schema: { type: 'string' } } },
    },
    ...errors('400', '404', '429', '503'),
  },
}

const named = (operationId: string, summary: string, list: string, properties: JsonObject): JsonObject => ({
  get: {
    operationId,
    summary,
    responses: {
      '200': response(summary, { type: 'object', properties: { [list]: { type: 'array', items: { type: 'object', properties } } } }),
    },
  },
})

const plain = (operationId: string, summary: string, extra: JsonObject = {}): JsonObject => ({
  get: {
    operationId,
    summary,
    responses: { '200': { description: summary, content: { 'text/plain': { schema: { type: 'string' } } } }, ...extra },
  },
})

const names: JsonObject = { type: 'array', items: { type: 'string' } }

/** OpenAPI 3.1 of the gateway's HTTP side. */
export const openApiDocument: JsonObject = {
  openapi: '3.1.0',
  info: {
    title: 'Spillway gateway',
    version: 'v1',
    description: 'Predict, publish and subscribe. The same over gRPC: spillway.v1.Prediction.',
  },
  paths: {
    '/v1/pipelines': named('listPipelines', 'The pipelines served', 'pipelines', {
      name: { type: 'string' },
      inputTopics: names,
      topics: names,
    }),
    '/v1/pipelines/{name}:predict': { post: predict },
    '/v1/topics': named('listTopics', 'The topics served', 'topics', {
      name: { type: 'string' },
      partitions: { type: 'integer' },
      input: { type: 'boolean', description: 'Whether it may be published to.' },
    }),
    '/v1/topics/{topic}/events': { get: subscribe, post: publish },
    ...deadLetterPaths,
    '/metrics': plain('metrics', 'Metrics in Prometheus text format'),
    '/livez': plain('live', 'Answers while the process does'),
    '/readyz': plain('ready', 'Whether to send work here', { '503': { description: 'Not ready, and why' } }),
  },
  components: {
    schemas: {
      Error: {
        type: 'object',
        required: ['error'],
        properties: {
          error: {
            type: 'object',
            required: ['code', 'message'],
            properties: {
              code: { type: 'string', description: "gRPC's name of it: INVALID_ARGUMENT, NOT_FOUND, …" },
              message: { type: 'string' },
              field: { type: 'string', description: 'The input field, member or header that is wrong.' },
              stage: { type: 'string', description: 'The stage that failed, in a prediction.' },
            },
          },
        },
      },
      Prediction: {
        type: 'object',
        required: ['prediction'],
        properties: { prediction: { type: 'object' }, alert: { type: 'object', description: 'Where the event raises one.' } },
      },
      ...deadLetterSchemas,
      Result: { oneOf: [ref('Prediction'), ref('Error')] },
    },
    responses: {
      '400': response('The request or the event is wrong; `field` says where.', ref('Error')),
      '403': response('The topic is not an input.', ref('Error')),
      '404': response('No such pipeline or topic.', ref('Error')),
      '413': response('The body is over the limit.', ref('Error')),
      '415': response('The content type is not taken.', ref('Error')),
      '429': response('Too much is in flight; see `Retry-After`.', ref('Error')),
      '503': response('Something needed is away, or the gateway is shutting down; see `Retry-After`.', ref('Error')),
      '504': response('No answer within the deadline.', ref('Error')),
    },
  },
}
