import { describe, expect, test } from 'vitest'
import { SharedRequests } from '../src/kafka/shared-requests.ts'

/** Requests that are answered by hand, with their number. */
function byHand(): { readonly sent: PromiseWithResolvers<number>[]; readonly send: () => Promise<number> } {
  const sent: PromiseWithResolvers<number>[] = []
  return {
    sent,
    send: () => {
      const request = Promise.withResolvers<number>()
      sent.push(request)
      return request.promise
    },
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a shared request', () => {
  test('is made once for all who ask in a turn of the event loop, and for each key', async () => {
    const { sent, send } = byHand()
    const requests = new SharedRequests<string, number>()
    const answers = Promise.all(['a', 'a', 'b', 'a'].map(async (key) => requests.ask(key, send)))
    await turn()
    for (const [i, { resolve }] of sent.entries()) resolve(i)
    expect(await answers).toEqual([0, 0, 1, 0])
  })

  test('that was sent before is not for who asks now: it is made once more, after it, for all who ask meanwhile', async () => {
    const { sent, send } = byHand()
    const requests = new SharedRequests<string, number>()
    const first = requests.ask('a', send)
    await turn()
    const later = [requests.ask('a', send)]
    await turn()
    later.push(requests.ask('a', send))
    expect(sent).toHaveLength(1)
    sent[0]!.resolve(0)
    expect(await first).toBe(0)
    await turn()
    sent[1]!.resolve(1)
    expect(await Promise.all(later)).toEqual([1, 1])
    const last = requests.ask('a', send)
    await turn()
    sent[2]!.resolve(2)
    expect(await last).toBe(2)
  })

  test('fails for those who asked for it, and not for the next', async () => {
    const { sent, send } = byHand()
    const requests = new SharedRequests<string, number>()
    const first = requests.ask('a', send)
    await turn()
    const second = requests.ask('a', send)
    sent[0]!.reject(new Error('the broker is away'))
    await expect(first).rejects.toThrow('the broker is away')
    await turn()
    sent[1]!.resolve(1)
    expect(await second).toBe(1)
  })
})
