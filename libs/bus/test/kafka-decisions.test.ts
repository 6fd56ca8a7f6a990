import { bytesAt } from '@spillway/core'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseKafkaAddress } from '../src/kafka/address.ts'
import { assignPartitions } from '../src/assignment.ts'
import { decodeMetadata, encodeMetadata } from '../src/kafka/group-metadata.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { takenOver } from '../src/kafka/position.ts'
import { positionsTopic } from '../src/kafka/position-record.ts'
import { merged, type ProduceBatch, rounds, Sequences } from '../src/kafka/produce.ts'
import { recordsOf } from '../src/records.ts'

const batch = (partition: number, count: number) => ({
  topic: 't',
  partition,
  records: recordsOf(Array.from({ length: count }, () => ({ value: '' }))),
  indices: [],
  bytes: 0,
})

describe('a Kafka address', () => {
  test('names brokers, with 9092 where no port is given', () => {
    expect(parseKafkaAddress('kafka://one:9093,two.example,10.0.0.3:1')).toEqual(['one:9093', 'two.example:9092', '10.0.0.3:1'])
    expect(parseKafkaAddress('kafka://localhost:9092/')).toEqual(['localhost:9092'])
  })

  test.each([
    'localhost:9092',
    'kafka://',
    'kafka://a,,b',
    'kafka://a:port',
    'kafka://a:0',
    'kafka://a:70000',
    'kafka://a b',
    'kafka://a/b',
    'kafka://-a',
  ])('%s is refused, saying what was expected', (address) => {
    expect(() => parseKafkaAddress(address)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'bus', message: expect.stringContaining('kafka://host:port') }),
    )
  })

  test('a host that does not exist stops the start with one clear error', async () => {
    const start = new KafkaBus({ brokers: ['no-such-host.invalid:9092'] }).start(AbortSignal.timeout(3000))
    await expect(start).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})

describe('assignment', () => {
  const groups = fc.record({
    partitions: fc.integer({ min: 1, max: 40 }),
    members: fc.uniqueArray(fc.record({ memberId: fc.string({ minLength: 1 }), owned: fc.uniqueArray(fc.integer({ min: 0, max: 60 })) }), {
      minLength: 1,
      maxLength: 12,
      selector: ({ memberId }) => memberId,
    }),
  })

  test('every partition has one owner, and shares differ by one at most', () => {
    fc.assert(
      fc.property(groups, ({ partitions, members }) => {
        const shares = [...assignPartitions(partitions, members).values()]
        expect(shares.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: partitions }, (_, i) => i))
        const sizes = shares.map(({ length }) => length)
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
        expect(shares).toHaveLength(members.length)
      }),
    )
  })

  test('a stable group keeps its assignment, in any order of members', () => {
    fc.assert(
      fc.property(groups, ({ partitions, members }) => {
        const assigned = assignPartitions(partitions, members)
        const settled = members.map(({ memberId }) => ({ memberId, owned: assigned.get(memberId)! }))
        expect(new Map(assignPartitions(partitions, settled.toReversed()))).toEqual(new Map(assigned))
      }),
    )
  })

  test('a newcomer takes its share, and nothing else moves', () => {
    const assigned = assignPartitions(6, [
      { memberId: 'a', owned: [0, 1, 2] },
      { memberId: 'b', owned: [3, 4, 5] },
      { memberId: 'c', owned: [] },
    ])
    expect(Object.fromEntries(assigned)).toEqual({ a: [0, 1], b: [3, 4], c: [2, 5] })
  })
})

describe('sequences', () => {
  test('follow each other by partition, wrap at 2^31, and are given back', () => {
    const sequences = new Sequences()
    expect(sequences.take(batch(0, 5)).firstSequence).toBe(0)
    const taken = sequences.take(batch(0, 3))
    expect(taken.firstSequence).toBe(5)
    expect(sequences.take(batch(1, 1)).firstSequence).toBe(0)
    sequences.giveBack(taken)
    expect(sequences.take(batch(0, 1)).firstSequence).toBe(5)
    const huge = { ...batch(2, 0), records: { count: 0x7fffffff } as never }
    sequences.take(huge)
    expect(sequences.take(batch(2, 3)).firstSequence).toBe(0x7fffffff)
    expect(sequences.take(batch(2, 1)).firstSequence).toBe(2)
  })

  test('merged keep each partition’s records in order, in batches that no next one would have fitted into', () => {
    const given = fc.array(fc.record({ partition: fc.integer({ min: 0, max: 2 }), bytes: fc.integer({ min: 1, max: 150 }) }), {
      minLength: 1,
    })
    fc.assert(
      fc.property(given, (sizes) => {
        const batches = sizes.map(({ partition, bytes }, i) => ({
          ...batch(partition, 0),
          bytes,
          records: recordsOf([{ value: String(i) }]),
        }))
        const valuesIn = (of: readonly ProduceBatch[], partition: number): string =>
          of
            .filter((each) => each.partition === partition)
            .map(({ records }) =>
              Array.from({ length: records.count }, (_, row) => Buffer.from(bytesAt(records.values, row)).toString()).join(),
            )
            .join()
        const result = merged(batches, () => 100)
        for (const partition of [0, 1, 2]) {
          expect(valuesIn(result, partition)).toBe(valuesIn(batches, partition))
          const sums = result.filter((each) => each.partition === partition).map(({ bytes }) => bytes)
          expect(sums.reduce((sum, bytes) => sum + bytes, 0)).toBe(
            batches.filter((each) => each.partition === partition).reduce((sum, { bytes }) => sum + bytes, 0),
          )
        }
        for (const { records, bytes } of result) if (records.count > 1) expect(bytes).toBeLessThanOrEqual(100)
        for (const [i, { partition, bytes }] of result.entries()) {
          const next = result.slice(i + 1).find((each) => each.partition === partition)
          const first = next && batches[Number(Buffer.from(bytesAt(next.records.values, 0)).toString())]
          if (first !== undefined) expect(bytes + first.bytes).toBeGreaterThan(100)
        }
      }),
    )
  })

  test('rounds keep a partition’s batches in order, one a round', () => {
    const [first, second, third, other] = [batch(0, 1), batch(0, 2), batch(0, 3), batch(1, 1)]
    expect(rounds([first, second, other, third])).toEqual([[first, other], [second], [third]])
  })
})

describe('the position that is gone on from', () => {
  const record = { offset: 20n, stamp: 'store', note: undefined }
  const told = { offset: 15n, stamp: 'store', note: undefined, isTold: true }
  const given = { offset: 5n, stamp: undefined, note: undefined, isTold: false }

  test('is the record, whatever the group was told or has forgotten', () => {
    expect(takenOver(record, told)).toEqual({ position: record, isGiven: false })
    expect(takenOver(record, undefined)).toEqual({ position: record, isGiven: false })
  })

  test('is what somebody else gave the group, and must then be made the record', () => {
    expect(takenOver(record, given)).toEqual({ position: given, isGiven: true })
    expect(takenOver(undefined, given)).toEqual({ position: given, isGiven: true })
  })

  test('is what the group was told where the record is gone, and none where there is nothing', () => {
    expect(takenOver(undefined, told)).toEqual({ position: told, isGiven: false })
    expect(takenOver(undefined, undefined)).toEqual({ position: undefined, isGiven: false })
  })

  test('is known as ours, or an earlier release’s with its stamp and note, by what lies beside the offset', () => {
    expect(decodeMetadata(encodeMetadata('store'))).toEqual({ isTold: true, stamp: 'store', note: undefined })
    expect(decodeMetadata(encodeMetadata(undefined))).toEqual({ isTold: true, stamp: undefined, note: undefined })
    expect(decodeMetadata('spillway-stamp:s\nspillway-note:n')).toEqual({ isTold: false, stamp: 's', note: 'n' })
    for (const text of ['', null, 'a tool’s own words'])
      expect(decodeMetadata(text)).toEqual({ isTold: false, stamp: undefined, note: undefined })
  })
})

describe('the topic of a group’s positions', () => {
  test('says whose they are', () => {
    expect(positionsTopic('fraud.router', 'fraud.features')).toBe('fraud.router.positions.fraud.features')
  })

  test('is a name that Kafka takes, and no other pair’s', () => {
    const name = fc.oneof(
      fc.string({ minLength: 1 }),
      fc.stringMatching(/^[a-z.]{1,249}$/),
      fc.constantFrom('a', 'a.positions', 'positions.a', 'b'),
    )
    fc.assert(
      fc.property(name, name, name, name, (group, topic, otherGroup, otherTopic) => {
        expect(positionsTopic(group, topic)).toMatch(/^[\w.-]{1,249}$/)
        const isSame = group === otherGroup && topic === otherTopic
        expect(positionsTopic(group, topic) === positionsTopic(otherGroup, otherTopic)).toBe(isSame)
      }),
    )
  })
})
