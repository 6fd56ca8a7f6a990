import { expect, it, onTestFinished } from 'vitest'
import { startGateway, until } from './fixture.ts'

interface StreamEvent {
  readonly id: string
  readonly event: string
  readonly data: string
}

/** A client as the HTML standard describes it: blocks end at an empty line, and the id holds until another comes. */
class EventClient {
  readonly events: StreamEvent[] = []
  lastId = ''
  ended = false
  readonly #abort = new AbortController()
  readonly response: Promise<Response>

  constructor(url: string, lastEventId?: string) {
    this.response = fetch(url, { signal: this.#abort.signal, headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId } })
    void this.#read().catch(() => (this.ended = true))
    onTestFinished(() => this.disconnect())
  }

  async #read(): Promise<void> {
    let text = ''
    for await (const chunk of (await this.response).body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        this.#take(text.slice(0, end))
        text = text.slice(end + 2)
      }
    }
    this.ended = true
  }

  #take(block: string): void {
    const fields = block.split('\n').map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)] as const)
    const values = (name: string): string[] => fields.filter(([field]) => field === name).map(([, value]) => value)
    this.lastId = values('id')[0] ?? this.lastId
    if (values('data').length > 0) this.events.push({ id: this.lastId, event: values('event')[0]!, data: values('data').join('\n') })
  }

  disconnect(): void {
    this.#abort.abort()
  }
}

const numbers = (events: readonly StreamEvent[]): number[] => events.map((event) => (JSON.parse(event.data) as { n: number }).n)
const range = (from: number, to: number): object[] => Array.from({ length: to - from }, (_, i) => ({ n: from + i }))
const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b)
const expected = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

it('resumes at Last-Event-ID from any event, without loss or repeat', async () => {
  const { url, publish } = await startGateway()
  const stream = `${url}/v1/topics/predictions/events`
  await publish('predictions', ...range(0, 100))
  const all = new EventClient(`${stream}?from=earliest`)
  await until(() => all.events.length === 100)
  await publish('predictions', ...range(100, 150))
  await until(() => all.events.length === 150)
  expect(ascending(numbers(all.events))).toEqual(expected(0, 150))

  for (const seen of [1, 37, 99, 149, 150]) {
    const resumed = new EventClient(stream, all.events[seen - 1]!.id)
    await until(() => resumed.events.length === 150 - seen && resumed.lastId !== '')
    expect(ascending([...numbers(all.events.slice(0, seen)), ...numbers(resumed.events)])).toEqual(expected(0, 150))
    resumed.disconnect()
  }
})

it('begins at the latest, and misses nothing between a lost connection and the next, even before the first event', async () => {
  const { url, publish } = await startGateway()
  const stream = `${url}/v1/topics/predictions/events`
  await publish('predictions', ...range(0, 10))
  const first = new EventClient(stream)
  await until(() => first.lastId !== '')
  first.disconnect()
  await publish('predictions', ...range(10, 20))
  const second = new EventClient(stream, first.lastId)
  await until(() => second.events.length === 10)
  expect(ascending(numbers(second.events))).toEqual(expected(10, 20))
})

it('names the event by its CloudEvents type, and keeps data of several lines', async () => {
  const { url, bus } = await startGateway()
  const value = Buffer.from('{\n"n": 9007199254740993\r\n}')
  await bus.publish('predictions', {
    count: 2,
    values: { bytes: Buffer.concat([value, value]), offsets: Uint32Array.of(0, value.length, 2 * value.length) },
    headers: [{ ce_type: 'spillway.prediction' }, undefined],
  })
  const client = new EventClient(`${url}/v1/topics/predictions/events?from=earliest`)
  await until(() => client.events.length === 2)
  expect(client.events.map(({ event }) => event).sort()).toEqual(['predictions', 'spillway.prediction'])
  expect(client.events[0]!.data).toBe('{\n"n": 9007199254740993\n}')
  expect((await client.response).headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
})

it('frees the subscription of a client that disconnects, and refuses one too many', async () => {
  const { url, metric } = await startGateway({ maxSubscriptions: 2 })
  const stream = `${url}/v1/topics/predictions/events`
  const clients = [new EventClient(stream), new EventClient(stream)]
  await until(async () => (await metric('spillway_gateway_subscriptions')) === 2)
  const refused = await fetch(stream)
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
  for (const client of clients) client.disconnect()
  await until(async () => (await metric('spillway_gateway_subscriptions')) === 0)
})

it('holds the topic back for a client that does not read, and goes on when it does', async () => {
  const { url, bus, publish } = await startGateway()
  let slices = 0
  const subscribe = bus.subscribe.bind(bus)
  bus.subscribe = async function* (subscription) {
    for await (const slice of subscribe(subscription)) {
      slices++
      yield slice
    }
  }
  const note = 'x'.repeat(10_000)
  for (let from = 0; from < 5000; from += 500) await publish('predictions', ...range(from, from + 500).map((event) => ({ ...event, note })))
  const response = await fetch(`${url}/v1/topics/predictions/events?from=earliest`)
  const reader = response.body!.getReader()
  // Quiet for a while: all buffers on the way are full. 50 MB are more than they hold.
  let quietSince = { slices, atMs: Date.now() }
  await until(() => {
    if (slices !== quietSince.slices) quietSince = { slices, atMs: Date.now() }
    return slices > 0 && Date.now() - quietSince.atMs > 300
  })
  const held = slices
  expect(held).toBeLessThan(25)
  let bytes = 0
  while (bytes < 50_000_000) bytes += (await reader.read()).value!.length
  expect(slices).toBeGreaterThan(held)
  await reader.cancel()
})

it('ends its streams when it drains', async () => {
  const { url, gateway } = await startGateway()
  const client = new EventClient(`${url}/v1/topics/predictions/events`)
  await until(() => client.lastId !== '')
  await gateway.drain()
  await until(() => client.ended)
})

it('refuses a start that it cannot make out', async () => {
  const { url, publish } = await startGateway()
  await publish('transactions', ...range(0, 10))
  const other = new EventClient(`${url}/v1/topics/transactions/events?from=earliest`)
  await until(() => other.events.length === 10)
  const cases: readonly [string, string | undefined, number, object][] = [
    ['/v1/topics/unknown/events', undefined, 404, { code: 'NOT_FOUND' }],
    ['/v1/topics/predictions/events?from=sometime', undefined, 400, { code: 'INVALID_ARGUMENT', field: 'from' }],
    ['/v1/topics/predictions/events', 'nonsense!', 400, { code: 'INVALID_ARGUMENT', field: 'Last-Event-ID' }],
    ['/v1/topics/predictions/events', other.lastId, 400, { code: 'INVALID_ARGUMENT', field: 'Last-Event-ID' }],
  ]
  for (const [path, lastEventId, status, error] of cases) {
    const response = await fetch(url + path, lastEventId === undefined ? {} : { headers: { 'last-event-id': lastEventId } })
    expect([response.status, await response.json()]).toEqual([status, { error: expect.objectContaining(error) }])
  }
  // A topic made anew is shorter than the position.
  const anew = await startGateway()
  const response = await fetch(`${anew.url}/v1/topics/transactions/events`, { headers: { 'last-event-id': other.lastId } })
  expect(await response.json()).toMatchObject({ error: { code: 'OUT_OF_RANGE' } })
})
