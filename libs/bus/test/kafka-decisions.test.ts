import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseKafkaAddress } from '../src/kafka/address.ts'
import { assignPartitions } from '../src/assignment.ts'
import { KafkaBus } from '../src/kafka/kafka-bus.ts'
import { rounds, Sequences } from '../src/kafka/produce.ts'
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

  test('rounds keep a partition’s batches in order, one a round', () => {
    const [first, second, third, other] = [batch(0, 1), batch(0, 2), batch(0, 3), batch(1, 1)]
    expect(rounds([first, second, other, third])).toEqual([[first, other], [second], [third]])
  })
})
