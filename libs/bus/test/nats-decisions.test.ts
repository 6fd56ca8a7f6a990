import { headers, type Msg } from '@nats-io/transport-node'
import { bytesAt } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseNatsAddress } from '../src/nats/address.ts'
import { assignedTo, beat, beginLeaving, emptyGroup, give, type GroupState, heldBy, remove, take } from '../src/nats/group-state.ts'
import { decodeRecord, encodeRecord, sliceOf } from '../src/nats/messages.ts'
import { escapeName, unescapeName } from '../src/nats/names.ts'
import { decodeOutbox, encodeOutbox } from '../src/nats/outbox.ts'
import { recordsOf } from '../src/records.ts'

describe('a group on NATS', () => {
  /** All that its members can do, in any order, on one shared entry. */
  const step = fc.record({ member: fc.constantFrom('a', 'b', 'c', 'd'), kind: fc.constantFrom('beat', 'take', 'give', 'leave', 'die') })

  function apply(state: GroupState, { member, kind }: { member: string; kind: string }): GroupState {
    if (kind === 'beat') return beat(state, member)
    if (kind === 'die') return remove(state, [member])
    if (!(member in state.members)) return state
    if (kind === 'take') return take(state, member)
    if (kind === 'leave') return beginLeaving(state, member)
    const surplus = heldBy(state, member).filter((partition) => !assignedTo(state, member).includes(partition))
    return give(state, member, new Set(surplus))
  }

  test('a partition has one holder at most, who is a member; shares differ by one at most', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 60 }), (partitions, steps) => {
        let state = emptyGroup(partitions)
        for (const each of steps) {
          const before = state
          state = apply(state, each)
          for (const [partition, { held }] of state.partitions.entries()) {
            if (held === undefined) continue
            expect(held in state.members).toBe(true)
            const was = before.partitions[partition]!.held
            // Only who gave it up, or is no longer a member, is followed.
            if (was !== undefined && was !== held) expect(was in state.members).toBe(false)
          }
          const staying = Object.keys(state.members).filter((id) => state.members[id]!.leaving !== true)
          const shares = staying.map((id) => assignedTo(state, id).length)
          if (staying.length > 0) expect(shares.reduce((sum, share) => sum + share)).toBe(partitions)
          if (shares.length > 0) expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1)
        }
      }),
    )
  })

  test('when members only beat, give and take, each comes to hold its share', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 40 }), (partitions, steps) => {
        let state = steps.reduce(apply, emptyGroup(partitions))
        for (const id of Object.keys(state.members)) if (state.members[id]!.leaving === true) state = remove(state, [id])
        const members = Object.keys(state.members)
        for (const kind of ['give', 'take']) for (const member of members) state = apply(state, { member, kind })
        for (const member of members) expect(heldBy(state, member)).toEqual(assignedTo(state, member))
      }),
    )
  })
})

describe('a record as a NATS message', () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }).map((value) => value.toWellFormed()),
    fc.constantFrom(' x', 'x ', 'a\r\nb', ''),
  )
  const record = fc.record({
    key: fc.oneof(fc.string(), fc.uint8Array()),
    value: fc.uint8Array(),
    headers: fc.dictionary(
      fc.oneof(
        text.filter((name) => name !== '' && name !== '__proto__'),
        fc.constantFrom('ce_id', 'Nats-Msg-Id', 'record-key', 'a b'),
      ),
      text,
      { maxKeys: 5 },
    ),
    timestampMs: fc.oneof(fc.integer({ min: 0, max: 4e12 }), fc.constant(NaN)),
  })

  test('comes back as it was: key, value, headers, time', () => {
    fc.assert(
      fc.property(record, (row) => {
        const records = recordsOf([row])
        const { headers: lines, payload } = encodeRecord(records, 0)
        const read = sliceOf('t', 3, [decodeRecord(message(lines, payload), 8, 77)], 0, 1)
        expect([...read.offsets]).toEqual([7n])
        expect(Buffer.from(bytesAt(read.records.values, 0))).toEqual(Buffer.from(row.value))
        expect(Buffer.from(read.records.keys ? bytesAt(read.records.keys, 0) : [])).toEqual(Buffer.from(row.key))
        expect({ ...read.records.headers?.[0] }).toEqual({ ...row.headers })
        expect(read.records.timestampsMs[0]).toBe(Number.isNaN(row.timestampMs) ? 77 : row.timestampMs)
      }),
    )
  })

  /** As the client reads it from the wire. */
  function message(lines: string, data: Uint8Array): Msg {
    const read = headers()
    for (const line of Buffer.from(lines).toString().split('\r\n').filter(Boolean))
      read.append(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim())
    return { headers: read, data, subject: 's' } as unknown as Msg
  }
})

test('outputs are read from their outbox as they were put there, and what is cut off is refused', () => {
  const outputs = ['a', ''].map((payload) => ({ stream: 's', subject: 'spillway.ü.0', headers: 'k: v\r\n', payload: Buffer.from(payload) }))
  const bytes = encodeOutbox(outputs)
  expect(decodeOutbox(bytes, 'token')).toEqual(outputs.map((output, i) => ({ ...output, id: `token.${i}` })))
  expect(() => decodeOutbox(bytes.subarray(0, bytes.length - 1), 'token')).toThrow(expect.objectContaining({ code: 'DATA_LOSS' }))
})

test('names come back from their escaped form, which is safe in subjects, streams and keys', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }).filter((name) => name.isWellFormed()),
      (name) => {
        expect(escapeName(name)).toMatch(/^[\w=-]*$/)
        expect(unescapeName(escapeName(name))).toBe(name)
      },
    ),
  )
})

test('an address names servers, credentials and settings', () => {
  expect(parseNatsAddress('nats://127.0.0.1')).toEqual({ servers: ['127.0.0.1:4222'] })
  expect(parseNatsAddress('nats://me:p%40ss@a:1,b:2/?duplicate-window=2m&replicas=3')).toEqual({
    servers: ['a:1', 'b:2'],
    user: 'me',
    password: 'p@ss',
    duplicateWindowMs: 120_000,
    replicas: 3,
  })
  for (const wrong of ['nats://', 'nats://a:0', 'nats://me@a', 'nats://a?replicas=9', 'nats://a?duplicate-window=soon', 'kafka://a'])
    expect(() => parseNatsAddress(wrong)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})
