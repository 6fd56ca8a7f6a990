import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { continuation, data, frame, headers, lastData, preface, setting, settings, windowUpdate } from './raw-frames.ts'
import { call, callBlock, connectTo, expectEcho, expectServing, greet, message, serve, waitingCalls } from './wire-rig.ts'

const payload = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.constantFrom(callBlock, message('some event'), Buffer.alloc(0), Buffer.alloc(4), Buffer.alloc(5), Buffer.alloc(6), Buffer.alloc(8)),
)
const streamId = fc.constantFrom(0, 1, 2, 3, 5, 7, 9, 2 ** 31 - 1)
const anyFrame = fc
  .tuple(fc.integer({ min: 0, max: 11 }), fc.integer({ min: 0, max: 255 }), streamId, payload)
  .map((parts) => frame(...parts))
const likelyFrame = fc.oneof(
  streamId.map((id) => headers(id, callBlock)),
  streamId.map((id) => headers(id, callBlock.subarray(0, 20), 0)),
  streamId.map((id) => continuation(id, callBlock.subarray(20))),
  streamId.map((id) => lastData(id, message('some event'))),
  streamId.map((id) => call(id)),
  fc.tuple(streamId, fc.integer({ min: 0, max: 2 ** 31 - 1 })).map(([id, increment]) => windowUpdate(id, increment)),
  fc.integer({ min: 0, max: 2 ** 31 - 1 }).map((bytes) => settings([setting.initialWindowSize, bytes])),
)

it('RFC 9113 10.5: whatever one client sends, others are served', async () => {
  const server = await serve()
  const frames = fc.array(fc.oneof({ weight: 3, arbitrary: likelyFrame }, anyFrame), { minLength: 1, maxLength: 30 })
  await fc.assert(
    fc.asyncProperty(frames, async (sent) => {
      const client = await greet(server)
      await client.sendThrough(Buffer.concat(sent))
      await expectServing(server)
      client.destroy()
    }),
    { numRuns: 200 },
  )
})

it('RFC 9113 3.4: whatever bytes come in place of frames, others are served', async () => {
  const server = await serve()
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(preface, Buffer.alloc(0)), fc.uint8Array({ minLength: 1, maxLength: 200 }), async (begin, bytes) => {
      const client = await connectTo(server)
      await client.sendThrough(Buffer.concat([begin, bytes]))
      await expectServing(server)
      client.destroy()
    }),
    { numRuns: 100 },
  )
})

it('RFC 9113 4.1: calls are answered wherever their bytes are cut and their frames come in turn', async () => {
  const server = await serve()
  const turns = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 60 })
  const cuts = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(turns, cuts, async (turns, cuts) => {
      const ids = [1, 3, 5, 7, 9]
      const bodies = ids.map((id) => message(`event of ${id}`))
      const bytes = [preface, settings(), ...ids.map((id) => headers(id, callBlock))]
      for (const turn of turns) {
        const part = bodies[turn]!.subarray(0, 3)
        bodies[turn] = bodies[turn]!.subarray(part.length)
        bytes.push(data(ids[turn]!, part))
      }
      for (const [index, id] of ids.entries()) bytes.push(lastData(id, bodies[index]!))
      const client = await connectTo(server)
      let rest = Buffer.concat(bytes)
      for (let at = 0; rest.length > 0; at++) {
        const cut = cuts[at % cuts.length]!
        await client.sendThrough(rest.subarray(0, cut))
        await new Promise(setImmediate)
        rest = rest.subarray(cut)
      }
      for (const id of ids) await expectEcho(client, id)
      client.destroy()
    }),
    { numRuns: 30 },
  )
})

it('RFC 9113 5.1: a client that leaves anywhere within its calls leaves none running', async () => {
  const { predict, waiting } = waitingCalls()
  const server = await serve(predict)
  const bytes = Buffer.concat([call(1, 'wait'), headers(3, callBlock), call(5, 'wait')])
  for (let end = 1; end <= bytes.length; end += 7) {
    const client = await greet(server)
    await client.sendThrough(bytes.subarray(0, end))
    client.destroy()
  }
  await expectServing(server)
  await expect.poll(waiting).toBe(0)
})
