import { MeshError } from '@spillway/core'
import { type GrpcService, GrpcServer, type RpcCall, unaryHandler } from '@spillway/rpc'
import { inference } from '@spillway/wire'
import { testTelemetry } from '../mesh-run.ts'

/** What every row that reaches it is scored. */
export const heavyScore = 0.75

/** A model server of one model, `heavy`: FP32 [rows, 1] to FP32 [rows, 1]. It answers late, or not at all, as it is told. */
export class HeavyServer {
  /** From a call to its answer. */
  delayMs = 0
  /** What each row takes besides, one call after the other. */
  rowDelayMs = 0
  calls = 0
  mostInFlight = 0
  /** How much time each call was given, ms; Infinity where it was given no deadline. */
  readonly givenMs: number[] = []
  /** Calls that were given up by their callers. */
  cancelled = 0
  private inFlight = 0
  private line: Promise<unknown> = Promise.resolve()
  private held: PromiseWithResolvers<void> | undefined
  private server: GrpcServer | undefined

  async start(port = 0): Promise<number> {
    this.server = new GrpcServer({ port, services: [this.service()], telemetry: testTelemetry(), drainTimeoutMs: 100 })
    await this.server.start()
    return this.server.port
  }

  async stop(): Promise<void> {
    await this.server?.drain()
  }

  /** Answers nothing from now on. */
  hold(): void {
    this.held = Promise.withResolvers()
  }

  /** Answers again, what waits first. */
  release(): void {
    this.held?.resolve()
    this.held = undefined
  }

  private async infer(request: inference.ModelInferRequest, call: RpcCall): Promise<inference.ModelInferResponse> {
    const rows = Number(request.inputs[0]!.shape[0])
    this.calls++
    this.givenMs.push(call.deadlineMs - Date.now())
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight)
    call.signal.addEventListener('abort', () => this.cancelled++, { once: true })
    try {
      const gone = new Promise<never>((_resolve, reject) =>
        call.signal.addEventListener('abort', () => reject(call.signal.reason as Error), { once: true }),
      )
      if (this.held !== undefined) await Promise.race([gone, this.held.promise])
      if (this.delayMs > 0) await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, this.delayMs))])
      await Promise.race([gone, this.inLine(rows)])
    } finally {
      this.inFlight--
    }
    return {
      modelName: 'heavy',
      modelVersion: '1',
      id: '',
      parameters: {},
      outputs: [{ name: 'score', datatype: 'FP32', shape: [BigInt(rows), 1n], parameters: {}, contents: undefined }],
      rawOutputContents: [Buffer.from(new Float32Array(rows).fill(heavyScore).buffer)],
    }
  }

  private inLine(rows: number): Promise<unknown> {
    if (this.rowDelayMs > 0) this.line = this.line.then(() => new Promise((resolve) => setTimeout(resolve, rows * this.rowDelayMs)))
    return this.line
  }

  private service(): GrpcService {
    const unused = unaryHandler(() => Promise.reject(new MeshError('UNIMPLEMENTED', 'not part of this server')))
    const tensor = (name: string): inference.ModelMetadataResponse_TensorMetadata => ({ name, datatype: 'FP32', shape: [-1n, 1n] })
    const definition = inference.GRPCInferenceServiceService
    return {
      definition,
      implementation: {
        ...Object.fromEntries(Object.keys(definition).map((name) => [name, unused])),
        modelMetadata: unaryHandler(async (): Promise<inference.ModelMetadataResponse> => ({
          name: 'heavy',
          versions: ['1'],
          platform: 'test',
          inputs: [tensor('features')],
          outputs: [tensor('score')],
          properties: {},
        })),
        modelInfer: unaryHandler((request: inference.ModelInferRequest, call) => this.infer(request, call)),
      },
    }
  }
}
