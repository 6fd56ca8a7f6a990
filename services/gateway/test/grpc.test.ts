import { GrpcChannel } from '@spillway/rpc'
import { createTelemetry, withRemoteParent } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { expect, it, onTestFinished } from 'vitest'
import { startGateway, type Started, until } from './fixture.ts'

const { PredictionService, SubscribeRequest_Named } = predictionV1
const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

function channelTo({ gateway }: Started): GrpcChannel {
  const telemetry = createTelemetry({ service: 'client', logLevel: 'silent', otlp: false })
  const channel = new GrpcChannel({ address: `127.0.0.1:${gateway.grpcPort}`, telemetry })
  onTestFinished(() => channel.drain())
  return channel
}

async function take(stream: AsyncIterable<predictionV1.SubscribeResponse>, count: number): Promise<predictionV1.SubscribeResponse[]> {
  const taken: predictionV1.SubscribeResponse[] = []
  for await (const response of stream) if (taken.push(response) === count) break
  return taken
}

it('predicts, with exact integers, errors by event and trace context', async () => {
  const started = await startGateway()
  const channel = channelTo(started)
  const events = ['{"id":9007199254740993,"amount":600}', '{"id":1}'].map((event) => Buffer.from(event))
  const call = withRemoteParent(traceparent, () => channel.unary(PredictionService.predict, { pipeline: 'fraud', events }))
  const [first, second] = (await call).results
  expect(String((first!.result as { value: Uint8Array }).value)).toBe('{"id":9007199254740993,"score":0.6}')
  expect(String(first!.alert)).toBe('{"id":9007199254740993,"score":0.6}')
  expect(second!.result).toMatchObject({ $case: 'failure', value: { code: 'INVALID_ARGUMENT', field: 'amount', stage: 'preprocessing' } })
  expect(second!.alert).toBeUndefined()
  expect(started.pipeline.calls[0]!.traceParent).toBe(traceparent)
  await expect(channel.unary(PredictionService.predict, { pipeline: 'other', events })).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

it('stops at the caller’s deadline', async () => {
  const started = await startGateway()
  const events = [Buffer.from('{"wait":1}')]
  const call = channelTo(started).unary(PredictionService.predict, { pipeline: 'fraud', events }, { deadlineMs: Date.now() + 100 })
  await expect(call).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' })
  await until(() => started.pipeline.calls[0]!.signal.aborted)
})

it('publishes, and subscribes from a position on without loss or repeat', async () => {
  const started = await startGateway()
  const channel = channelTo(started)
  const publish = (from: number, to: number): Promise<predictionV1.PublishResponse> => {
    const events = Array.from({ length: to - from }, (_, i) => ({
      key: Buffer.from(`key ${from + i}`),
      value: Buffer.from(`any bytes ${from + i}`),
      headers: { ce_type: 'test' },
    }))
    return channel.unary(PredictionService.publish, { topic: 'transactions', events })
  }
  expect((await publish(0, 50)).positions).toHaveLength(50)
  const earliest = { $case: 'named' as const, value: SubscribeRequest_Named.NAMED_EARLIEST }
  const first = await take(channel.serverStream(PredictionService.subscribe, { topic: 'transactions', start: earliest }), 20)
  const { positions } = await publish(50, 60)
  const after = { $case: 'afterPosition' as const, value: first.at(-1)!.position }
  const rest = await take(channel.serverStream(PredictionService.subscribe, { topic: 'transactions', start: after }), 40)
  const values = [...first, ...rest].map((response) => String(response.value))
  expect(new Set(values).size).toBe(60)
  const last = rest.find((response) => String(response.value) === 'any bytes 59')!
  expect(last).toMatchObject({ partition: positions[9]!.partition, offset: positions[9]!.offset, headers: { ce_type: 'test' } })
  expect(String(last.key)).toBe('key 59')
  await until(async () => (await started.metric('spillway_gateway_subscriptions')) === 0)
})

it('ends subscriptions with UNAVAILABLE when it drains', async () => {
  const started = await startGateway()
  await started.publish('predictions', { n: 1 })
  const earliest = { $case: 'named' as const, value: SubscribeRequest_Named.NAMED_EARLIEST }
  const stream = channelTo(started).serverStream(PredictionService.subscribe, { topic: 'predictions', start: earliest })
  await stream.next()
  const ended = expect(stream.next()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  await started.gateway.drain()
  await ended
})

it('refuses unknown topics and positions', async () => {
  const channel = channelTo(await startGateway())
  const subscribe = (topic: string, value: string): Promise<unknown> =>
    take(channel.serverStream(PredictionService.subscribe, { topic, start: { $case: 'afterPosition', value } }), 1)
  await expect(subscribe('unknown', 'x')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(subscribe('predictions', 'x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'after_position' })
})
