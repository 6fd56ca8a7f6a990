import { MeshError } from '@spillway/core'
import { predictionV1 } from '@spillway/wire'
import { describe, expect, test, vi } from 'vitest'
import { rejection, RpcRig } from './rpc-fixture.ts'

const { subscribe } = predictionV1.PredictionService
const aRecord: predictionV1.SubscribeResponse = {
  position: '',
  partition: 0,
  offset: 0n,
  key: new Uint8Array(0),
  value: new Uint8Array(64 * 1024),
  headers: {},
  timestampMs: 0n,
}

const rpc = new RpcRig()

describe('a server stream', () => {
  test('waits for the reader, and lets the handler go when it leaves', async () => {
    let sent = 0
    const returned = Promise.withResolvers<void>()
    const { channel } = await rpc.pair({
      async *subscribe() {
        try {
          for (;;) {
            sent++
            yield aRecord
          }
        } finally {
          returned.resolve()
        }
      },
    })
    const stream = channel.serverStream(subscribe, { topic: 't', start: undefined })
    await stream.next()
    // The reader takes no more: what is sent settles at what the windows and queues hold.
    let last = -1
    await vi.waitFor(
      () => {
        const settled = sent === last
        last = sent
        expect(settled).toBe(true)
      },
      { interval: 100, timeout: 5_000 },
    )
    expect(sent).toBeLessThan(200)
    await stream.return(undefined)
    await returned.promise
  })

  test('ends with the status of its handler', async () => {
    const { channel } = await rpc.pair({
      async *subscribe() {
        yield aRecord
        throw new MeshError('OUT_OF_RANGE', 'the position was removed', { field: 'after_position' })
      },
    })
    let count = 0
    const read = async (): Promise<void> => {
      for await (const _record of channel.serverStream(subscribe, { topic: 't', start: undefined })) count++
    }
    expect(await rejection(read())).toMatchObject({ code: 'OUT_OF_RANGE', field: 'after_position' })
    expect(count).toBe(1)
  })

  test('is ended by a drain, with UNAVAILABLE', async () => {
    const { server, channel } = await rpc.pair({
      async *subscribe(_request, call) {
        yield aRecord
        await new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve(), { once: true }))
      },
    })
    const stream = channel.serverStream(subscribe, { topic: 't', start: undefined })
    await stream.next()
    const end = rejection(stream.next())
    await server.drain()
    expect(await end).toMatchObject({ code: 'UNAVAILABLE' })
  })
})
