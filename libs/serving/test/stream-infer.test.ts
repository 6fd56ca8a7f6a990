import { MeshError } from '@spillway/core'
import type { RpcCall } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import { expect, test } from 'vitest'
import { streamInfer } from '../src/protocols/stream-infer.ts'

const request = (id: string): inference.ModelInferRequest => ({ ...inference.ModelInferRequest.decode(new Uint8Array(0)), id })
const response = (id: string): inference.ModelInferResponse => ({ ...inference.ModelInferResponse.decode(new Uint8Array(0)), id })

function callWith(signal: AbortSignal): RpcCall {
  return { signal, deadlineMs: Infinity, principal: '', traceParent: '', metadata: undefined as unknown as RpcCall['metadata'] }
}

test('answers keep the order of requests, whichever is ready first; as many are in flight as may be', async () => {
  let read = 0
  let running = 0
  let most = 0
  async function* requests(): AsyncGenerator<inference.ModelInferRequest> {
    for (; read < 300; read++) yield request(String(read))
  }
  const infer = async ({ id }: inference.ModelInferRequest): Promise<inference.ModelInferResponse> => {
    most = Math.max(most, ++running)
    for (let turns = Number(id) % 7; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
    running--
    return response(id)
  }
  const ids: string[] = []
  for await (const { inferResponse } of streamInfer(requests(), callWith(new AbortController().signal), infer)) ids.push(inferResponse!.id)
  expect(ids).toEqual(Array.from({ length: 300 }, (_, i) => String(i)))
  expect(most).toBeLessThanOrEqual(64)
  expect(most).toBeGreaterThan(1)
})

test('a call that is given up ends at once, and so does what was still to be read', async () => {
  const controller = new AbortController()
  let fail = (_error: Error): void => undefined
  let given = 0
  const requests: AsyncIterable<inference.ModelInferRequest> = {
    [Symbol.asyncIterator]: () => ({
      next: () =>
        given < 64
          ? Promise.resolve({ done: false, value: request(String(given++)) })
          : new Promise((_, reject) => {
              fail = reject
            }),
    }),
  }
  const answers = streamInfer(requests, callWith(controller.signal), () => new Promise(() => undefined))
  const first = answers.next()
  await expect.poll(() => given).toBe(64)
  controller.abort(new MeshError('CANCELLED', 'gone'))
  await expect(first).rejects.toMatchObject({ code: 'CANCELLED', message: 'gone' })
  // Rejected with nobody waiting, as a stream that is destroyed does it: nothing may come of it.
  fail(new Error('premature close'))
  await new Promise((resolve) => setImmediate(resolve))
})
