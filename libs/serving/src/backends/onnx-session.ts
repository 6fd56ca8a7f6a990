import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { bytesColumn, type Datatype, type FixedData, MeshError, type Tensor, textColumn } from '@spillway/core'
import type { InferenceSession, OnnxValue } from 'onnxruntime-node'
// The package's own asynchronous `run` blocks this thread as well, only a turn of the event loop later: its binding runs at once.
import { type Binding, binding, initOrt } from 'onnxruntime-node/dist/binding.js'
import type { Tensors } from '../backend.ts'
import { describeOnnx, type OnnxDescription, ortTypes } from './onnx-signature.ts'
import { ortStrings } from './ort-strings.ts'

export interface OnnxSessionOptions {
  readonly path: string
  /** Threads within one run. */
  readonly threads: number
  /** ONNX Runtime's, the first choice first. */
  readonly providers: readonly string[]
  /** As in the model's config. */
  readonly maxBatchSize: number | undefined
}

/** What a tensor is to the binding; for the runtime's own class half floats are a Float16Array, which it does not read: it reads their bits. */
interface OrtTensor {
  readonly type: string
  readonly dims: readonly number[]
  readonly data: FixedData | readonly string[]
  readonly location: 'cpu'
}

/** An ONNX Runtime session. `run` blocks the thread that it is on. */
export class OnnxSession {
  readonly description: OnnxDescription
  readonly #session: Binding.InferenceSession
  /** Names of all outputs, as the binding asks for them. */
  readonly #fetches: Readonly<Record<string, null>>

  private constructor(session: Binding.InferenceSession, description: OnnxDescription) {
    this.#session = session
    this.description = description
    this.#fetches = Object.fromEntries(Array.from(description.signature.outputs.keys(), (name) => [name, null]))
  }

  /**
   * Blocks while it loads.
   * @throws MeshError FAILED_PRECONDITION naming the file where it is no ONNX model or does not go with its config, or the execution provider that is missing.
   */
  static open({ path, threads, providers, maxBatchSize }: OnnxSessionOptions): OnnxSession {
    checkProviders(path, providers)
    initOrt()
    const session = new binding.InferenceSession()
    try {
      session.loadModel(path, {
        executionProviders: [...providers],
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        // What fails is thrown, with the same text: nothing goes to standard error beside the log.
        logSeverityLevel: 4,
      } satisfies InferenceSession.SessionOptions)
    } catch (error) {
      throw new MeshError('FAILED_PRECONDITION', loadFailure(path, providers, (error as Error).message), { cause: error })
    }
    try {
      return new OnnxSession(session, describeOnnx(session, path, maxBatchSize))
    } catch (error) {
      session.dispose()
      throw error
    }
  }

  /** @throws MeshError INVALID_ARGUMENT naming the input that is missing, or no text; INTERNAL with the runtime's message, which names the node that failed. */
  run(inputs: Tensors): Map<string, Tensor> {
    const { inputs: expected, outputs: columns, wholeShapes } = this.description.signature
    const feeds: Record<string, OrtTensor> = {}
    let rowCount = 0
    for (const name of expected.keys()) {
      const input = inputs.get(name)
      if (input === undefined) throw new MeshError('INVALID_ARGUMENT', `input "${name}" is missing`, { field: name })
      feeds[name] = toOrt(name, input)
      rowCount = input.shape[0] ?? 1
    }
    let results: Record<string, OnnxValue>
    try {
      results = this.#session.run(feeds as unknown as Record<string, OnnxValue>, this.#fetches, {})
    } catch (error) {
      throw new MeshError('INTERNAL', `ONNX Runtime: ${(error as Error).message}`)
    }
    const outputs = new Map<string, Tensor>()
    for (const [name, { datatype }] of columns) {
      const output = results[name] as unknown as OrtTensor
      if (wholeShapes === undefined && output.dims[0] !== rowCount)
        throw new MeshError(
          'INTERNAL',
          `output "${name}" has shape [${output.dims.join(', ')}] for ${rowCount} rows: its first dimension must be the row, or max_batch_size 0`,
        )
      outputs.set(name, fromOrt(output, datatype))
    }
    return outputs
  }

  release(): void {
    this.#session.dispose()
  }
}

/** @throws MeshError FAILED_PRECONDITION naming the provider, and what is missing. */
function checkProviders(path: string, providers: readonly string[]): void {
  const known = binding.listSupportedBackends()
  for (const provider of providers) {
    const found = known.find(({ name }) => name === provider)
    if (found === undefined)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `${path} asks for execution provider "${provider}", which this build of ONNX Runtime has not: it has ${known.map(({ name }) => name).join(', ')}`,
      )
    if (found.bundled) continue
    const missing = missingLibrary(provider)
    if (missing !== undefined)
      throw new MeshError(
        'FAILED_PRECONDITION',
        `${path} asks for execution provider "${provider}", whose library is not installed: expected ${missing} (onnxruntime-node's install script brings it)`,
      )
  }
}

/** Where the runtime looks for what is not in the package; asking the runtime itself would write to standard error. */
function missingLibrary(provider: string): string | undefined {
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node/dist/binding.js')
  const folder = join(dirname(entry), '..', 'bin', 'napi-v6', process.platform, process.arch)
  return ['shared', provider].map((part) => join(folder, `libonnxruntime_providers_${part}.so`)).find((file) => !existsSync(file))
}

function loadFailure(path: string, providers: readonly string[], message: string): string {
  const own = providers.filter((provider) => provider !== 'cpu')
  if (own.length > 0)
    return `${path} cannot be loaded with execution provider ${own.map((name) => `"${name}"`).join(', ')}: ${message.trim()}`
  return `${path} cannot be loaded as an ONNX model: ${message}`
}

function toOrt(name: string, { datatype, shape, data }: Tensor): OrtTensor {
  const type = ortTypes.get(datatype)
  if (type === undefined) throw new MeshError('INVALID_ARGUMENT', `ONNX Runtime takes no ${datatype} here`)
  return { type, dims: shape, data: 'bytes' in data ? ortStrings(name, shape, data) : data, location: 'cpu' }
}

function fromOrt(output: OrtTensor, datatype: Datatype): Tensor {
  const shape = [...output.dims]
  if (datatype === 'BYTES')
    return { datatype, shape, data: output.data.length === 0 ? bytesColumn([]) : textColumn(output.data as string[]) }
  const data = output.data as FixedData
  if (datatype === 'FP16') return { datatype, shape, data: new Uint16Array(data.buffer, data.byteOffset, data.length) }
  return { datatype, shape, data }
}
