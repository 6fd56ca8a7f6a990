import { errors, json, type JsonObject, ref, response } from './openapi-parts.ts'

const pipelineParameter: JsonObject = { name: 'name', in: 'path', required: true, schema: { type: 'string' } }

const query = (name: string, description: string, schema: JsonObject = { type: 'string' }): JsonObject => ({
  name,
  in: 'query',
  description,
  schema,
})

const list: JsonObject = {
  operationId: 'listDeadLetters',
  summary: 'Dead letters, by partition and there in the order in which they were written',
  description:
    'A page looks at a bounded number of letters: it may be empty and still have a `next`. Nothing more comes where there is no `next`.',
  parameters: [
    pipelineParameter,
    query('segment', 'The segment that failed it.'),
    query('stage', 'The stage that failed it.'),
    query('code', 'Why it failed: INVALID_ARGUMENT, …'),
    query('key', 'The record key of its event.'),
    query('id', "The event's id."),
    query('from', 'Written at or after.', { type: 'string', format: 'date-time' }),
    query('to', 'Written before.', { type: 'string', format: 'date-time' }),
    query('outcome', 'What became of it.', { type: 'string', enum: ['open', 'redriven', 'dropped', 'any'], default: 'open' }),
    query('after', 'The `next` of the page before.'),
    query('limit', 'Letters of a page.', { type: 'integer', minimum: 1, maximum: 1000, default: 100 }),
  ],
  responses: {
    '200': response('A page.', {
      type: 'object',
      required: ['letters'],
      properties: { letters: { type: 'array', items: ref('DeadLetter') }, next: { type: 'string' } },
    }),
    ...errors('400', '404', '503'),
  },
}

const show: JsonObject = {
  operationId: 'showDeadLetter',
  summary: 'A dead letter with its event, and the row that the failing stage was given',
  parameters: [pipelineParameter, { name: 'position', in: 'path', required: true, schema: { type: 'string' } }],
  responses: { '200': response('The letter.', ref('DeadLetterDetail')), ...errors('400', '404', '503') },
}

const settle = (operationId: string, summary: string, description: string, properties: JsonObject): JsonObject => ({
  operationId,
  summary,
  description,
  parameters: [pipelineParameter],
  requestBody: {
    required: true,
    content: json({
      type: 'object',
      required: ['positions'],
      additionalProperties: false,
      properties: {
        positions: { type: 'array', maxItems: 500, items: { type: 'string' } },
        dryRun: { type: 'boolean', description: 'Only say what would be done.' },
        ...properties,
      },
    }),
  },
  responses: {
    '200': response('What was done, durably.', {
      type: 'object',
      properties: {
        settled: { type: 'integer' },
        left: {
          type: 'array',
          description: 'Letters that were left as they are.',
          items: { type: 'object', properties: { position: { type: 'string' }, reason: { type: 'string' } } },
        },
      },
    }),
    ...errors('400', '404', '413', '415', '503'),
  },
})

const at: JsonObject = {
  type: 'string',
  enum: ['segment', 'input'],
  default: 'segment',
  description: "To the segment that failed the letter, or its event to the pipeline's input.",
}

export const deadLetterPaths: JsonObject = {
  '/v1/pipelines/{name}/dead-letters': { get: list },
  '/v1/pipelines/{name}/dead-letters/{position}': { get: show },
  '/v1/pipelines/{name}/dead-letters:redrive': {
    post: settle(
      'redriveDeadLetters',
      'Gives dead letters back to the head of the segment that failed them',
      'A letter is given back once, however often it is asked for: repeat a call whose answer was lost.',
      { at },
    ),
  },
  '/v1/pipelines/{name}/dead-letters:drop': {
    post: settle(
      'dropDeadLetters',
      'Says that dead letters are done with',
      'The letters stay on their topic for as long as it keeps them.',
      {},
    ),
  },
}

const text: JsonObject = { type: 'string' }

const letter: JsonObject = {
  position: { type: 'string', description: '`<partition>-<offset>` on the dead-letter topic.' },
  outcome: { type: 'string', enum: ['open', 'redriven', 'dropped'] },
  timeMs: { type: 'number', description: 'When it was written, ms since the epoch.' },
  segment: text,
  stage: text,
  code: text,
  message: text,
  field: text,
  id: text,
  key: text,
  source: { type: 'string', description: 'Where its event lies: `<topic>/<partition>/<offset>`.' },
  redriven: { type: 'integer', description: 'How often the event was given back before it became this letter.' },
  incomplete: { type: 'string', description: 'What was cut so that the letter fits a record.' },
}

export const deadLetterSchemas: JsonObject = {
  DeadLetter: { type: 'object', properties: letter },
  DeadLetterDetail: {
    type: 'object',
    properties: {
      ...letter,
      event: { type: 'string', description: 'As it came in.' },
      headers: { type: 'object', additionalProperties: text },
      row: { type: 'object', description: 'The columns that the failing stage was given.' },
    },
  },
}
