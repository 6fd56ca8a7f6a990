import { request as httpRequest } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Datatype } from '@spillway/core'
import type { ServerIdentity } from '@spillway/serving'
import { createTelemetry } from '@spillway/telemetry'
import { logisticModel, onnxModel, type ValueSpec, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { type ModelService, startModelService } from '../src/mod.ts'

/** Datatypes with a model `echo-<datatype>`: `x` [rows, 2] comes back as `y`. */
const echoed: readonly Datatype[] = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'FP32',
  'FP64',
  'BYTES',
]

export interface OipFixture {
  readonly service: ModelService
  /** `http://127.0.0.1:<port>` */
  readonly http: string
  readonly grpcPort: number
  readonly telemetry: ReturnType<typeof createTelemetry>
  stop(): Promise<void>
}

function echo(datatype: Datatype, shape: ValueSpec['shape']): Uint8Array {
  return onnxModel({
    inputs: [{ name: 'x', datatype, shape }],
    outputs: [{ name: 'y', datatype, shape }],
    nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
  })
}

export interface OipFixtureOptions {
  readonly identity?: ServerIdentity
  /** Whether models are loaded and unloaded by requests; all are at the start. */
  readonly explicit?: boolean
}

/**
 * A started service: `logistic` (versions 1 and 2, FP32 `features` [rows, 3] to `score` [rows, 1]), the echoes, `pair` (`a` FP32 [rows, 2] to `b`, `n` INT64
 * [rows] to `m`), `ragged` (FP32 `x` [rows, any]), `word` (BYTES `x` [rows, 1]), `whole` (FP32 `x` [3], not batched), `classes` (FP32 `x` [rows, 4]).
 */
export async function startOipFixture({ identity, explicit = false }: OipFixtureOptions = {}): Promise<OipFixture> {
  const repository = await mkdtemp(join(tmpdir(), 'spillway-oip-'))
  await writeModel(repository, 'logistic', 1, logisticModel([1, 2, 3], 0))
  await writeModel(repository, 'logistic', 2, logisticModel([1, -2, 0.5], 0.25))
  for (const datatype of echoed) await writeModel(repository, `echo-${datatype}`, 1, echo(datatype, ['rows', 2]))
  await writeModel(repository, 'ragged', 1, echo('FP32', ['rows', 'columns']))
  await writeModel(repository, 'word', 1, echo('BYTES', ['rows', 1]))
  await writeModel(repository, 'whole', 1, echo('FP32', [3]))
  await writeModel(repository, 'classes', 1, echo('FP32', ['rows', 4]))
  const pair = onnxModel({
    inputs: [
      { name: 'a', datatype: 'FP32', shape: ['rows', 2] },
      { name: 'n', datatype: 'INT64', shape: ['rows'] },
    ],
    outputs: [
      { name: 'b', datatype: 'FP32', shape: ['rows', 2] },
      { name: 'm', datatype: 'INT64', shape: ['rows'] },
    ],
    nodes: [
      { op: 'Identity', inputs: ['a'], outputs: ['b'] },
      { op: 'Identity', inputs: ['n'], outputs: ['m'] },
    ],
  })
  await writeModel(repository, 'pair', 1, pair)
  const telemetry = createTelemetry({ service: 'oip-test', logLevel: 'silent', otlp: false })
  const { signal } = new AbortController()
  const service = await startModelService({
    repository,
    host: '127.0.0.1',
    httpPort: 0,
    grpcPort: 0,
    telemetry,
    signal,
    ...(identity && { identity }),
    ...(explicit && { mode: 'explicit', loadModels: ['*'] }),
  })
  return {
    service,
    http: `http://127.0.0.1:${service.httpPort}`,
    grpcPort: service.grpcPort,
    telemetry,
    stop: async () => {
      await service.drain()
      await telemetry.shutdown()
      await rm(repository, { recursive: true })
    },
  }
}

/** What came back, as it came. */
export interface RawAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
}

/** A request whose headers and body stay as they are: fetch decompresses on its own. */
export function rawPost(http: string, path: string, headers: Record<string, string>, body: Uint8Array): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${http}${path}`, { method: 'POST', headers }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }))
    })
    request.on('error', reject)
    request.end(body)
  })
}
