import { MeshError, takeRows } from '@spillway/core'
import { expect, test } from 'vitest'
import { encodeDeadLetters } from '../src/sinks.ts'
import { rows } from './fixture.ts'

test('dead letters of a slice lie in the order of their events, whichever stage failed first', () => {
  const batch = rows(['a', 'b', 'c', 'd'])
  const failedAt = (stage: string, places: readonly number[]): Parameters<typeof encodeDeadLetters>[1][number] => ({
    stage,
    batch: takeRows(batch, places),
    errors: places.map((place) => new MeshError('INVALID_ARGUMENT', `row ${place}`)),
  })
  const failures = [failedAt('behind', [1, 3]), failedAt('before', [0, 2])]
  const context = { topic: 'letters', partition: 0, maxRecordBytes: 100_000, frame: { schema: 's', release: 'r', target: 't' } }
  const { records } = encodeDeadLetters('segment', failures, context)
  const written = records.headers!.map((headers) => [
    headers!['spillway-event-id'],
    headers!['spillway-stage'],
    headers!['spillway-message'],
  ])
  expect(written).toEqual([
    ['a', 'before', 'row 0'],
    ['b', 'behind', 'row 1'],
    ['c', 'before', 'row 2'],
    ['d', 'behind', 'row 3'],
  ])
})
