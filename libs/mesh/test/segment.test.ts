import { EmbeddedBus, recordsOf, type Slice } from '@spillway/bus'
import { type Batch, bytesAt, MeshError, rowMeta, systemClock, takeRows, type StageResult, withColumns, text } from '@spillway/core'
import { decodeFrame, encodeFrame } from '@spillway/wire'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { rowsOf } from '../../core/test/rows.ts'
import type { Pipeline } from '../src/mod.ts'
import { Segment } from '../src/segment.ts'
import type { Sink } from '../src/sinks.ts'
import { EventSource, FrameSource } from '../src/sources.ts'
import { metrics, never, pipelineOf, rows, runnerOf, telemetry, through } from './fixture.ts'

const frame = { schema: 's', release: '1', target: '' }
const out = {
  predictions: { kind: 'sink', sink: 'predictions' },
  alerts: { kind: 'sink', sink: 'alerts' },
  frames: { kind: 'sink', sink: 'test.frames' },
  log: { kind: 'sink', sink: 'test.log' },
} as const
const maxRecordBytes = 100_000

let bus: EmbeddedBus
let segment: Segment | undefined

beforeEach(async () => {
  bus = new EmbeddedBus({ path: ':memory:', maxRecordBytes })
  await bus.start(never)
  await bus.topics.ensure(
    [...Object.values(out).map(({ sink }) => sink), 'events', 'test.dead-letters'].map((name) => ({ name, partitions: 1 })),
  )
})
afterEach(async () => {
  await segment?.drain()
  segment = undefined
  await bus.drain()
})

type Process = (batch: Batch) => StageResult | Promise<StageResult>

/** A segment over one stage: over events of an input, or over the frames of a topic link. */
async function start(topic: 'events' | 'test.frames', process: Process, pipeline: Pipeline = pipelineOf()): Promise<void> {
  const input = topic === 'events' ? pipeline.inputs.get('events')! : undefined
  const source =
    input === undefined
      ? new FrameSource({ stage: 'stage', schema: frame.schema, maxRows: 1000, late: pipeline.deadline.late })
      : new EventSource(pipeline, input, 'stage')
  segment = new Segment({
    plan: {
      name: 'segment',
      service: 'preprocessing',
      group: 'group',
      sources: [{ topic, stage: 'stage', ...(input && { input: input.name }) }],
    },
    pipeline,
    bus,
    entries: new Map([[topic, { source, runner: runnerOf(process, out), answers: true }]]),
    sinks: new Map<string, Sink>([
      ['predictions', { kind: 'events', type: 'test.prediction', answers: true }],
      ['alerts', { kind: 'events', type: 'test.alert', answers: false }],
      ['test.frames', { kind: 'frames', answers: true }],
      ['test.log', { kind: 'frames', answers: false }],
    ]),
    telemetry,
    metrics,
    clock: systemClock,
  })
  await segment.start(never)
}

interface Landed {
  readonly value: Buffer
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
}

/** The first `count` records of a topic. */
async function landed(topic: string, count: number): Promise<readonly Landed[]> {
  const records: Landed[] = []
  const enough = new AbortController()
  const give = (slice: Slice): void => {
    const { count: rowCount, keys, values, headers } = slice.records
    for (let row = 0; row < rowCount; row++)
      records.push({
        value: Buffer.from(bytesAt(values, row)),
        key: keys === undefined ? '' : Buffer.from(bytesAt(keys, row)).toString(),
        headers: headers?.[row] ?? {},
      })
  }
  for await (const slice of bus.subscribe({
    topic,
    from: 'earliest',
    maxSliceRecords: 100,
    signal: AbortSignal.any([enough.signal, AbortSignal.timeout(10_000)]),
  })) {
    give(slice)
    if (records.length >= count) break
  }
  enough.abort()
  expect(records).toHaveLength(count)
  return records
}

async function committed(topic: string): Promise<bigint> {
  const [end] = await bus.topics.offsets(topic)
  await expect.poll(() => segment!.lags.find((lag) => lag.topic === topic)?.committedOffset, { timeout: 5000 }).toBe(end!.end)
  return end!.end
}

const event = (name: string, x: unknown = 1): string => JSON.stringify({ name, x })
const asPredictions: Process = (batch) =>
  through('predictions', withColumns(batch, [['event', text(batch.meta.keys.map((key) => `{"name":"${key}"}`))]]))

describe('an event that cannot be read', () => {
  test('becomes a dead letter: its bytes, where it came from, what failed, why and in which field', async () => {
    const broken = [event('b', 'one'), '{"name": "c"', event('d')]
    await start('events', asPredictions)
    const headers = { 'x-shop': 'berlin', traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' }
    await bus.publish('events', recordsOf([{ value: event('a') }, ...broken.map((value) => ({ value, key: 'k', headers }))]))
    const letters = await landed('test.dead-letters', 2)
    expect(letters.map(({ value }) => value.toString())).toEqual(broken.slice(0, 2))
    expect(letters[0]!.headers).toEqual({
      'x-shop': 'berlin',
      traceparent: headers.traceparent,
      'spillway-code': 'INVALID_ARGUMENT',
      'spillway-message': expect.stringContaining('x') as string,
      'spillway-field': 'x',
      'spillway-segment': 'segment',
      'spillway-stage': 'stage',
      'spillway-event-id': 'events/0/1',
      'spillway-event-time-ms': expect.stringMatching(/^\d+$/) as string,
      'spillway-ingest-time-ms': expect.stringMatching(/^\d+$/) as string,
      'spillway-source-topic': 'events',
      'spillway-source-partition': '0',
      'spillway-source-offset': '1',
      'spillway-frame': expect.any(String) as string,
    })
    expect((await landed('predictions', 2)).map(({ value }) => value.toString())).toEqual(['{"name":"a"}', '{"name":"d"}'])
    expect(await committed('events')).toBe(4n)
  })

  test('because it is too large becomes one too, byte for byte', async () => {
    const large = event('b'.repeat(40_000))
    await start('events', asPredictions, pipelineOf(', maxEventBytes: 1000'))
    await bus.publish('events', recordsOf([event('a'), large, event('c')].map((value) => ({ value }))))
    const [letter] = await landed('test.dead-letters', 1)
    expect(letter!.value.toString()).toBe(large)
    expect(letter!.headers).toMatchObject({
      'spillway-code': 'INVALID_ARGUMENT',
      'spillway-message': expect.stringContaining('1000') as string,
    })
    await landed('predictions', 2)
  })

  test('and fills its record to the bus’s limit does not stop its partition: its letter holds what fits and says so', async () => {
    const large = 'x'.repeat(maxRecordBytes - 100)
    await start('events', asPredictions)
    await bus.publish('events', recordsOf([large, event('c')].map((value) => ({ value }))))
    const [letter] = await landed('test.dead-letters', 1)
    expect(large.startsWith(letter!.value.toString())).toBe(true)
    expect(letter!.value.byteLength).toBeGreaterThan(maxRecordBytes - 10_000)
    expect(letter!.headers['spillway-incomplete']).toBe('event')
    await landed('predictions', 1)
  })

  test('or comes with headers that fill it does not either', async () => {
    const large = { 'x-large': 'x'.repeat(maxRecordBytes - 100) }
    await start('events', asPredictions)
    await bus.publish(
      'events',
      recordsOf([{ value: event('a', 'one'), headers: large }, { value: event('b'), headers: large }, { value: event('c') }]),
    )
    const [unread, unwritten] = await landed('test.dead-letters', 2)
    expect([unread!.value.toString(), unread!.headers['spillway-stage']]).toEqual([event('a', 'one'), 'stage'])
    expect([unwritten!.value.toString(), unwritten!.headers['spillway-stage']]).toEqual([event('b'), 'sink predictions'])
    expect([unread!, unwritten!].map(({ headers }) => headers['x-large'] ?? headers['spillway-incomplete'])).toEqual(['headers', 'headers'])
    await landed('predictions', 1)
  })

  test('because it lies in the future does not hold up what follows it', async () => {
    const pipeline = pipelineOf(', alignment: { idle: 1s }')
    await start('events', asPredictions, pipeline)
    await bus.publish('events', recordsOf([{ value: event('a'), timestampMs: Date.now() + 2 * 86_400_000 }, { value: event('b') }]))
    const [letter] = await landed('test.dead-letters', 1)
    expect(letter!.headers['spillway-message']).toContain('more than a day in the future')
    await landed('predictions', 1)
  })
})

describe('a row that fails at its stage', () => {
  test('leaves its event and the row as the stage was given it', async () => {
    await start('events', (batch) => {
      const bad = batch.meta.keys.indexOf('b')
      const error = new MeshError('OUT_OF_RANGE', 'no b')
      const good = [...batch.meta.keys.keys()].filter((row) => row !== bad)
      return { outputs: new Map([['frames', takeRows(batch, good)]]), failures: bad < 0 ? [] : [{ row: bad, error }] }
    })
    await bus.publish('events', recordsOf(['a', 'b', 'c'].map((name) => ({ value: event(name, 7) }))))
    const [letter] = await landed('test.dead-letters', 1)
    expect([letter!.value.toString(), letter!.key, letter!.headers['spillway-code']]).toEqual([event('b', 7), 'b', 'OUT_OF_RANGE'])
    const { batch } = decodeFrame(Buffer.from(letter!.headers['spillway-frame']!, 'base64'))
    expect([...batch.columns.keys()]).toEqual(['name', 'x'])
    expect([batch.meta.keys, batch.columns.get('x')!.data]).toEqual([['b'], Float64Array.of(7)])
    const [framed] = await landed('test.frames', 1)
    expect(decodeFrame(framed!.value).batch.meta.keys).toEqual(['a', 'c'])
  })

  test('because its output is too large for the bus is a dead letter of the output', async () => {
    await start('events', (batch) =>
      through(
        'predictions',
        withColumns(batch, [['event', text(batch.meta.keys.map((key) => (key === 'b' ? 'x'.repeat(maxRecordBytes) : key)))]]),
      ),
    )
    await bus.publish('events', recordsOf(['a', 'b'].map((name) => ({ value: event(name) }))))
    const [letter] = await landed('test.dead-letters', 1)
    expect([letter!.value.toString(), letter!.headers['spillway-stage'], letter!.headers['spillway-code']]).toEqual([
      event('b'),
      'sink predictions',
      'OUT_OF_RANGE',
    ])
    expect((await landed('predictions', 1))[0]!.value.toString()).toBe('a')
  })
})

describe('a row with an output that is too large beside its answer', () => {
  const large = 'x'.repeat(maxRecordBytes)
  const written = async (topic: string, count: number): Promise<readonly unknown[]> =>
    (await landed(topic, count)).flatMap<unknown>(({ value, headers }) =>
      topic === out.log.sink ? decodeFrame(value).batch.meta.ids : [headers['ce_id']],
    )
  /** Rows with an id of their own, but for what the test says; each is predicted, and there is more of those that `more` names. */
  const answering =
    (port: 'alerts' | 'log', more: string, size: (batch: Batch, row: number) => string): Process =>
    (batch) => {
      const places = [...batch.meta.keys.keys()]
      const beside = places.filter((row) => more.includes(batch.meta.keys[row]!))
      const texts = text(places.map((row) => size(batch, row)))
      // As the feature log's: without the event that it was.
      const { events: _, ...known } = batch.meta
      const logged = { ...batch, meta: rowMeta(batch.rowCount, known) }
      return {
        outputs: new Map([
          [port, takeRows(withColumns(logged, [['event', texts]]), beside)],
          ['predictions', withColumns(batch, [['event', text(batch.meta.keys)]])],
        ]),
        failures: [],
      }
    }
  const publish = async (given: readonly (readonly [id: string, name: string])[]): Promise<void> =>
    void (await bus.publish('events', recordsOf(given.map(([id, name]) => ({ value: event(name), headers: { ce_id: id } })))))

  test.each(['alerts', 'log'] as const)('(%s) leaves all of its outputs, and is one dead letter, which holds its event', async (port) => {
    await start(
      'events',
      answering(port, 'bc', ({ meta }, row) => (meta.keys[row] === 'b' ? large : 'small')),
    )
    await publish(['a', 'b', 'c'].map((name) => [name, name]))
    expect(await written('predictions', 2)).toEqual(['a', 'c'])
    expect(await written(out[port].sink, 1)).toEqual(['c'])
    const [letter] = await landed('test.dead-letters', 1)
    expect([letter!.value.toString(), letter!.headers['spillway-stage'], letter!.headers['spillway-code']]).toEqual([
      event('b'),
      `sink ${out[port].sink}`,
      'OUT_OF_RANGE',
    ])
    expect(await committed('events')).toBe(3n)
    for (const [topic, count] of Object.entries({ predictions: 2n, [out[port].sink]: 1n, 'test.dead-letters': 1n }))
      expect(await bus.topics.offsets(topic)).toEqual([{ partition: 0, earliest: 0n, end: count }])
  })

  test('leaves those alone that share its id', async () => {
    await start(
      'events',
      answering('alerts', 'bcd', ({ meta }, row) => (meta.keys[row] === 'c' ? large : 'small')),
    )
    await publish([
      ['same', 'b'],
      ['same', 'c'],
      ['same', 'd'],
    ])
    expect((await landed('predictions', 2)).map(({ key }) => key)).toEqual(['b', 'd'])
    expect((await landed('alerts', 2)).map(({ key }) => key)).toEqual(['b', 'd'])
    expect((await landed('test.dead-letters', 1))[0]!.value.toString()).toBe(event('c'))
  })

  test('and in its answer too names the answer’s topic', async () => {
    await start('events', (batch) => {
      const rows = withColumns(batch, [['event', text(batch.meta.keys.map((key) => (key === 'b' ? large : key)))]])
      return {
        outputs: new Map([
          ['alerts', rows],
          ['predictions', rows],
        ]),
        failures: [],
      }
    })
    await publish(['a', 'b'].map((name) => [name, name]))
    expect((await landed('test.dead-letters', 1))[0]!.headers['spillway-stage']).toBe('sink predictions')
    expect(await written('alerts', 1)).toEqual(['a'])
    expect(await written('predictions', 1)).toEqual(['a'])
  })

  test('that fails behind that output is the dead letter of its failure alone', async () => {
    const answers = answering('log', 'ab', ({ meta }, row) => (meta.keys[row] === 'b' ? large : 'small'))
    await start('events', async (batch) => {
      const { outputs } = await answers(batch)
      const kept = takeRows(outputs.get('predictions')!, [0])
      const failures = batch.rowCount < 2 ? [] : [{ row: 1, error: new MeshError('OUT_OF_RANGE', 'no b') }]
      return { outputs: new Map([...outputs, ['predictions', kept]]), failures }
    })
    await publish(['a', 'b'].map((name) => [name, name]))
    expect((await landed('test.dead-letters', 1))[0]!.headers['spillway-message']).toBe('no b')
    expect(await written(out.log.sink, 1)).toEqual(['a'])
    expect(await written('predictions', 1)).toEqual(['a'])
    expect((await bus.topics.offsets('test.dead-letters'))[0]!.end).toBe(1n)
  })
})

describe('frames of a topic link', () => {
  test('that are corrupt become dead letters, with their bytes; those around them go through', async () => {
    const [first, second] = [rows(['a', 'b']), rows(['c'])]
    const corrupt = Buffer.from('no frame at all')
    const cut = encodeFrame(first, frame).subarray(0, 60)
    await start('test.frames', (batch) => through('predictions', batch))
    await bus.publish(
      'test.frames',
      recordsOf([encodeFrame(first, frame), corrupt, cut, encodeFrame(second, frame)].map((value) => ({ value }))),
    )
    expect((await landed('predictions', 3)).map(({ value }) => value.toString())).toEqual(['a', 'b', 'c'])
    const letters = await landed('test.dead-letters', 2)
    expect(letters.map(({ value }) => value)).toEqual([corrupt, Buffer.from(cut)])
    expect(letters.map(({ headers }) => headers['spillway-source-offset'])).toEqual(['1', '2'])
    expect(letters[0]!.headers).toMatchObject({
      'spillway-stage': 'stage',
      'spillway-source-topic': 'test.frames',
      'spillway-event-id': 'test.frames/0/1',
    })
  })

  test('of different columns, as two releases make them, are not mixed and all processed', async () => {
    const seen: unknown[] = []
    const other = withColumns(rows(['c']), [['more', text(['m'])]])
    await start('test.frames', (batch) => {
      seen.push(...rowsOf(batch))
      return through('predictions', batch)
    })
    await bus.publish(
      'test.frames',
      recordsOf(
        [encodeFrame(rows(['a', 'b']), frame), encodeFrame(other, frame), encodeFrame(rows(['d']), frame)].map((value) => ({ value })),
      ),
    )
    expect((await landed('predictions', 4)).map(({ value }) => value.toString())).toEqual(['a', 'b', 'c', 'd'])
    expect(seen).toEqual([rows(['a', 'b']), other, rows(['d'])].flatMap(rowsOf))
  })

  test('made with other features are dead letters, never taken for this release’s', async () => {
    await start('test.frames', (batch) => through('predictions', batch))
    const older = encodeFrame(rows(['b', 'c']), { ...frame, schema: 'other', release: '0' })
    await bus.publish(
      'test.frames',
      recordsOf([encodeFrame(rows(['a']), frame), older, encodeFrame(rows(['d']), frame)].map((value) => ({ value }))),
    )
    expect((await landed('predictions', 2)).map(({ value }) => value.toString())).toEqual(['a', 'd'])
    const letters = await landed('test.dead-letters', 2)
    expect(letters.map(({ headers }) => [headers['spillway-event-id'], headers['spillway-code']])).toEqual([
      ['b', 'FAILED_PRECONDITION'],
      ['c', 'FAILED_PRECONDITION'],
    ])
    expect(letters[0]!.headers['spillway-message']).toContain('release 0')
  })
})

test('a stage that loses a row stops its segment: nothing of the slice is committed until it answers for all', async () => {
  let calls = 0
  await start('events', (batch) => (++calls < 3 ? through('predictions', takeRows(batch, [0])) : asPredictions(batch)))
  await bus.publish('events', recordsOf(['a', 'b'].map((name) => ({ value: event(name) }))))
  expect((await landed('predictions', 2)).map(({ value }) => value.toString())).toEqual(['{"name":"a"}', '{"name":"b"}'])
  expect(calls).toBe(3)
})
