import { type GrpcService, GrpcChannel, GrpcServer, unaryHandler } from '@spillway/rpc'
import { createTelemetry } from '@spillway/telemetry'
import { predictionV1 } from '@spillway/wire'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fraudHost, fraudPipeline } from './fraud.ts'
import { closedLoop } from './load.ts'
import { alternate, writeResult } from './rounds.ts'

const callers = 16
const roundMs = 4000
const event = Buffer.from('{"transaction_id":1,"customer_id":1,"terminal_id":1,"amount":12.5,"tx_datetime":"2018-05-20T12:00:00Z"}')

/** Predict over gRPC against a gRPC echo of the same message, server and callers in this process for both. */
export async function benchPredict(rounds: number): Promise<void> {
  const telemetry = createTelemetry({ service: 'bench', logLevel: 'warn', otlp: false, logDestination: 2 })
  const pipeline = await fraudPipeline('bench-predict', { transactions: 'transactions', labels: 'labels' })
  const host = fraudHost(pipeline, { kind: 'embedded', path: join(mkdtempSync(join(tmpdir(), 'spillway-predict-')), 'bus.db') })
  await host.start(AbortSignal.timeout(60_000))
  const echo = new GrpcServer({ port: 0, services: [echoService()], telemetry })
  await echo.start()
  const gatewayChannel = new GrpcChannel({ address: `127.0.0.1:${host.gateway.grpcPort}`, telemetry })
  const echoChannel = new GrpcChannel({ address: `127.0.0.1:${echo.port}`, telemetry })
  const request = { pipeline: pipeline.name, events: [event] }
  const contender = (name: string, channel: GrpcChannel): { name: string; run: () => Promise<number> } => ({
    name,
    run: () =>
      closedLoop(callers, roundMs, async () => {
        const { results } = await channel.unary(predictionV1.PredictionService.predict, request)
        if (results[0]?.result?.$case !== 'prediction') throw new Error(`no prediction: ${JSON.stringify(results)}`)
      }),
  })
  const contenders = [contender('Predict', gatewayChannel), contender('gRPC echo', echoChannel)]
  for (const { run } of contenders) await run()
  const figures = await alternate(rounds, contenders)
  const ratio = figures[0]!.median / figures[1]!.median
  writeResult({
    benchmark: 'predict',
    unit: 'calls/s',
    setup: `one event a call, ${callers} callers over one connection, ${roundMs / 1000} s a round, callers and server in one process; all services in it, every link local. Echo: the same message type answered with as many bytes.`,
    figures,
    target: '≥ 50 % of the echo',
    reached: `${(ratio * 100).toFixed(0)} % of the echo`,
    met: ratio >= 0.5,
  })
  await gatewayChannel.drain()
  await echoChannel.drain()
  await echo.drain()
  await host.drain()
}

function echoService(): GrpcService {
  const answer: predictionV1.PredictResponse = { results: [{ result: { $case: 'prediction', value: Buffer.alloc(250, 32) } }] }
  const refuse = unaryHandler(() => Promise.reject(new Error('not part of the echo')))
  return {
    definition: predictionV1.PredictionService,
    implementation: {
      predict: unaryHandler(() => Promise.resolve(answer)),
      publish: refuse,
      subscribe: { kind: 'serverStream', handle: refuse.handle as never },
    },
  }
}
