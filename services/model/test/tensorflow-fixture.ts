import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Datatype } from '@spillway/core'
import { ModelManager } from '@spillway/serving'
import { createTelemetry } from '@spillway/telemetry'
import { onnxModel, type ValueSpec, writeModel } from '../../../libs/serving/test/onnx-builder.ts'
import { ModelServer } from '../src/mod.ts'

/** Datatypes with a model `echo-<datatype>`: one value a row comes back. */
const echoed: readonly Datatype[] = [
  'BOOL',
  'UINT8',
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

export interface TensorflowFixture {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  readonly models: ModelManager
  /** Status and text of the answer. */
  post(path: string, body: string | Uint8Array<ArrayBuffer>, headers?: Record<string, string>): Promise<readonly [number, string]>
  /** Status and parsed JSON of the answer. */
  get(path: string, method?: string): Promise<readonly [number, unknown]>
  stop(): Promise<void>
}

type Value = readonly [name: string, datatype: Datatype, shape: ValueSpec['shape']]

/** Each input comes back as the output in its place. */
function echo(inputs: readonly Value[], outputs: readonly string[]): Uint8Array {
  return onnxModel({
    inputs: inputs.map(([name, datatype, shape]) => ({ name, datatype, shape })),
    outputs: inputs.map(([, datatype, shape], index) => ({ name: outputs[index]!, datatype, shape })),
    nodes: inputs.map(([name], index) => ({ op: 'Identity', inputs: [name], outputs: [outputs[index]!] })),
  })
}

/** `y = x / 2 + added`, one value a row: the toy models of TensorFlow Serving's documents. */
function halfPlus(added: number): Uint8Array {
  return onnxModel({
    inputs: [{ name: 'x', datatype: 'FP32', shape: ['rows'] }],
    outputs: [{ name: 'y', datatype: 'FP32', shape: ['rows'] }],
    initializers: [
      { name: 'half', shape: [1], data: Float32Array.of(0.5) },
      { name: 'added', shape: [1], data: Float32Array.of(added) },
    ],
    nodes: [
      { op: 'Mul', inputs: ['x', 'half'], outputs: ['halved'] },
      { op: 'Add', inputs: ['halved', 'added'], outputs: ['y'] },
    ],
  })
}

const models: Readonly<Record<string, Uint8Array>> = {
  // The documents' example of several named inputs.
  sensors: echo(
    [
      ['tag', 'BYTES', ['rows']],
      ['signal', 'FP32', ['rows', 5]],
      ['sensor', 'INT64', ['rows', 2, 2]],
    ],
    ['tag_out', 'signal_out', 'sensor_out'],
  ),
  images: echo([['image', 'BYTES', ['rows']]], ['image_bytes']),
  matrices: echo([['x', 'FP32', ['rows', 1, 2]]], ['y']),
  ragged: echo([['x', 'FP32', ['rows', 'any']]], ['y']),
  scores: echo([['x', 'FP32', ['rows', 3]]], ['scores']),
  column: echo([['x', 'FP64', ['rows', 1]]], ['outputs']),
  labelled: echo(
    [
      ['score', 'FP32', ['rows', 2]],
      ['name', 'BYTES', ['rows', 2]],
    ],
    ['scores', 'classes'],
  ),
  whole: echo([['x', 'FP32', [3]]], ['y']),
  'with space': halfPlus(1),
}

/**
 * A started server: `half_plus_three` (version 123, in a folder with leading zeros), `half_plus_two` (versions 1, 2 and 3 of which add 1, 2 and 3; labels
 * `stable` for 1 and `canary` for 2), the echoes, and `models`.
 * @param served which of them; all where none is named
 */
export async function startTensorflowFixture(...served: readonly string[]): Promise<TensorflowFixture> {
  const repository = await mkdtemp(join(tmpdir(), 'spillway-tensorflow-'))
  await writeModel(repository, 'half_plus_three', '00000123', halfPlus(3))
  for (const version of [1, 2, 3]) await writeModel(repository, 'half_plus_two', version, halfPlus(version))
  for (const [name, model] of Object.entries(models)) await writeModel(repository, name, 1, model)
  for (const datatype of echoed) await writeModel(repository, `echo-${datatype}`, 1, echo([['x', datatype, ['rows']]], ['y']))
  const telemetry = createTelemetry({ service: 'tensorflow-test', logLevel: 'silent', otlp: false })
  const listed = {
    name: 'half_plus_two',
    basePath: join(repository, 'half_plus_two'),
    policy: { kind: 'all' as const },
    labels: new Map([
      ['stable', '1'],
      ['canary', '2'],
    ]),
  }
  const manager = new ModelManager({
    repository,
    listed: [listed],
    telemetry,
    workers: 1,
    settleMs: 0,
    ...(served.length > 0 && { models: served }),
  })
  const server = new ModelServer({
    models: manager,
    host: '127.0.0.1',
    httpPort: 0,
    grpcPort: 0,
    telemetry,
    maxRequestBytes: 4 * 1024 * 1024,
  })
  const { signal } = new AbortController()
  await server.start(signal)
  await manager.start(signal)
  const url = `http://127.0.0.1:${server.httpPort}`
  return {
    url,
    models: manager,
    post: async (path, body, headers = {}) => {
      const response = await fetch(url + path, { method: 'POST', body, headers })
      if (response.headers.get('content-type')?.startsWith('application/json') !== true) throw new Error(`${path} is answered by no JSON`)
      return [response.status, await response.text()]
    },
    get: async (path, method = 'GET') => {
      const response = await fetch(url + path, { method })
      return [response.status, await response.json()]
    },
    stop: async () => {
      await server.drain()
      await manager.drain()
      await telemetry.shutdown()
      await rm(repository, { recursive: true })
    },
  }
}
