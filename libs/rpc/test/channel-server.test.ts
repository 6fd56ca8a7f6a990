import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { Client, credentials, Metadata, type MethodDefinition } from '@grpc/grpc-js'
import { loadFileDescriptorSetFromBuffer, loadSync } from '@grpc/proto-loader'
import { descriptorSetFile, inference } from '@spillway/wire'
import { protoPath } from 'grpc-health-check'
import { describe, expect, test } from 'vitest'
import { GrpcChannel } from '../src/mod.ts'
import { predict, rejection, request, RpcRig } from './rpc-fixture.ts'

const rpc = new RpcRig()

describe('a channel', () => {
  test('says where nobody listens, and connects once somebody does', async () => {
    const probe = await rpc.startServer({})
    const { port } = probe
    await probe.drain()
    const channel = await rpc.connect(port)
    const error = await rejection(channel.unary(predict, request))
    expect(error).toMatchObject({ code: 'UNAVAILABLE', message: `connect ECONNREFUSED 127.0.0.1:${port}` })
    const ready = channel.waitForReady(new AbortController().signal)
    await rpc.startServer({ port, predict: async () => ({ results: [] }) })
    await ready
    expect(await channel.unary(predict, request)).toEqual({ results: [] })
  })

  test('says by which address it was asked for a host that refuses', async () => {
    const probe = await rpc.startServer({})
    const { port } = probe
    await probe.drain()
    const channel = new GrpcChannel({ address: `localhost:${port}`, telemetry: rpc.telemetry })
    const error = await rejection(channel.unary(predict, request))
    await channel.drain()
    expect(error.message).toMatch(new RegExp(`^localhost:${port}: connect ECONNREFUSED \\S+:${port}$`))
  })

  test('stops waiting when told to', async () => {
    const channel = await rpc.connect(9)
    expect(await rejection(channel.waitForReady(AbortSignal.timeout(50)))).toMatchObject({ code: 'CANCELLED' })
  })

  test.each(['nowhere', 'http://host:1', ':80', 'host:'])('refuses the address "%s"', (address) => {
    expect(() => new GrpcChannel({ address, telemetry: rpc.telemetry })).toThrow(/write host:port/)
  })
})

describe('a server', () => {
  test('names the address that is taken', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    const error = await rejection(rpc.startServer({ port }))
    expect(error.code).toBe('FAILED_PRECONDITION')
    expect(error.message).toContain(`127.0.0.1:${port}`)
    await new Promise((resolve) => other.close(resolve))
  })

  test('finishes calls in flight when it drains, and drains once', async () => {
    const entered = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    const { server, channel } = await rpc.pair({
      predict: async () => {
        entered.resolve()
        await go.promise
        return { results: [] }
      },
    })
    const answer = channel.unary(predict, request)
    await entered.promise
    const drained = Promise.all([server.drain(), server.drain()])
    go.resolve()
    expect(await answer).toEqual({ results: [] })
    await drained
    expect(await rejection(channel.unary(predict, request))).toMatchObject({ code: 'UNAVAILABLE' })
  })

  test('is SERVING only once set so', async () => {
    const { server, channel } = await rpc.pair({})
    const definition = loadSync(protoPath)['grpc.health.v1.Health'] as unknown as {
      Check: MethodDefinition<{ service: string }, { status: number }>
    }
    const check = (service: string): Promise<{ status: number }> => channel.unary(definition.Check, { service })
    expect(await check('')).toEqual({ status: 2 })
    server.setServing(true)
    expect(await check('')).toEqual({ status: 1 })
    expect(await check('spillway.v1.Prediction')).toEqual({ status: 1 })
    expect(await rejection(check('other'))).toMatchObject({ code: 'NOT_FOUND' })
  })

  test('describes its services by reflection', async () => {
    const { server } = await rpc.pair({})
    const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure())
    const ask = (query: Buffer): Promise<Buffer> =>
      new Promise((resolve, reject) => {
        const stream = client.makeBidiStreamRequest(
          '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
          (bytes: Buffer) => bytes,
          (bytes: Buffer) => bytes,
          new Metadata(),
        )
        stream.on('data', resolve).on('error', reject)
        stream.write(query)
        stream.end()
      })
    // ServerReflectionRequest: list_services = 7, file_containing_symbol = 4 (grpc/reflection/v1/reflection.proto).
    const listed = await ask(Buffer.from([0x3a, 1, 0x2a]))
    expect(listed.toString('latin1')).toContain('spillway.v1.Prediction')
    expect(listed.toString('latin1')).not.toContain('inference.GRPCInferenceService')
    const symbol = Buffer.from('spillway.v1.Prediction')
    const file = await ask(Buffer.concat([Buffer.from([0x22, symbol.length]), symbol]))
    expect(file.toString('latin1')).toContain('SubscribeRequest')
    // As protoc and buf write it: what protobufjs makes of a message with maps, other languages refuse.
    const ofMaps = Buffer.from('inference.ModelEnsembling.Step')
    const models = await ask(Buffer.concat([Buffer.from([0x22, ofMaps.length]), ofMaps]))
    expect(models.toString('latin1')).toContain('.inference.ModelEnsembling.Step.InputMapEntry')
    client.close()
  })
})

test('the descriptor set holds every service that a process may serve', async () => {
  const set = loadFileDescriptorSetFromBuffer(await readFile(descriptorSetFile))
  expect(Object.keys(set)).toEqual(expect.arrayContaining([inference.GRPCInferenceServiceService.modelInfer.path.split('/')[1]]))
})
