import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { detached, type Message, MessageReader } from '../src/message-reader.ts'
import { prefixed } from './http2/wire-rig.ts'

const most = 1_000_000

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function read(reader: MessageReader): readonly Message[] {
  const messages: Message[] = []
  for (let next = reader.next(); next !== undefined; next = reader.next()) messages.push(next)
  return messages
}

it('finds messages wherever their bytes are cut', () => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 10 })
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 })
  fc.assert(
    fc.property(bodies, cuts, (bodies, cuts) => {
      const bytes = Buffer.concat(bodies.map((body, index) => prefixed(body, index % 2)))
      const reader = new MessageReader(most)
      const found: Message[] = []
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const cut = cuts[turn % cuts.length]!
        reader.push(bytes.subarray(at, at + cut))
        at += cut
        found.push(...read(reader))
      }
      expect(found).toEqual(bodies.map((body, index) => ({ isCompressed: index % 2 === 1, bytes: Buffer.from(body) })))
      expect(reader.isEmpty).toBe(true)
    }),
  )
})

it('copies a message that came whole no more than one that came alone', () => {
  const bytes = prefixed(Buffer.alloc(1000, 'x'))
  const reader = new MessageReader(most)
  reader.push(bytes)
  expect(reader.next()?.bytes.buffer).toBe(bytes.buffer)
})

it('does not hold what was read with a part of a message', () => {
  const before = process.memoryUsage().arrayBuffers
  const bytes = prefixed(Buffer.alloc(2000, 'x'))
  const reader = new MessageReader(most)
  // Read by the socket in pieces of 64 KiB, of which all but a byte was something else.
  for (const byte of bytes) {
    const chunk = Buffer.alloc(65_536)
    chunk[100] = byte
    reader.push(chunk.subarray(100, 101))
    if (!reader.isEmpty && reader.next() !== undefined) break
  }
  collect()
  expect(reader.isEmpty).toBe(true)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 26)
})

it('takes no memory for what a message only says that it has', () => {
  const before = process.memoryUsage().arrayBuffers
  const begin = prefixed(Buffer.alloc(most)).subarray(0, 10)
  const readers = Array.from({ length: 1000 }, () => new MessageReader(most))
  for (const reader of readers) {
    reader.push(begin)
    expect(reader.next()).toBeUndefined()
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 26)
})

it('detaches a message from what is much more than it', () => {
  const chunk = Buffer.alloc(65_536, 'x')
  const small: Message = { isCompressed: false, bytes: chunk.subarray(5, 10) }
  const large: Message = { isCompressed: true, bytes: chunk.subarray(5, 60_000) }
  expect(detached(small)).toEqual(small)
  expect(detached(small).bytes.buffer).not.toBe(chunk.buffer)
  expect(detached(large)).toBe(large)
})
