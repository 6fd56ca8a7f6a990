import { MeshError, type Tensor } from '@spillway/core'
import type { RequestedOutput } from '@spillway/wire'
import type { Tensors } from '../backend.ts'
import type { InferOptions, ModelHandle, Models } from '../models.ts'
import { inferByKey, isSplit } from '../traffic/infer-by-key.ts'
import { classify } from './classification.ts'
import { type Parameters, readRequestParameters, versionChoice } from './request-parameters.ts'

/** An inference request of the Open Inference Protocol, decoded, whatever it came by. */
export interface InferExchange {
  readonly model: string
  /** '' for the model's own choice. */
  readonly version: string
  readonly parameters: Parameters
  readonly inputs: Tensors
  /** Of each row, where the caller sent them: read only where traffic is split. @throws MeshError INVALID_ARGUMENT */
  readonly keys?: (rowCount: number) => readonly string[]
  /** Empty: all of them. */
  readonly outputs: readonly RequestedOutput[]
}

export interface InferAnswer {
  /** The one that answered; of several the first row's. */
  readonly version: string
  /** Of each row, where they went by keys of their own. */
  readonly rowVersions?: readonly string[] | undefined
  /** Whether calls like this go to several versions now. */
  readonly split?: boolean
  /** Those that were asked for, in that order. */
  readonly outputs: readonly (readonly [string, Tensor])[]
}

/**
 * Runs a request. @throws MeshError INVALID_ARGUMENT naming the parameter, input or output that does not fit and what was expected; and as `Models.acquire` and
 * `ModelHandle.infer`.
 */
export async function inferExchange(models: Models, request: InferExchange, caller: InferOptions): Promise<InferAnswer> {
  const options = readRequestParameters(request.parameters)
  const { queueTimeoutMs } = options
  const limits = queueTimeoutMs === undefined ? caller : { deadlineMs: caller.deadlineMs, signal: caller.signal, queueTimeoutMs }
  const { version, outputs, keys } = request
  const split = version === '' && options.label === undefined && isSplit(models, request.model)
  if (split && keys !== undefined && options.key === undefined) return byKeys(models, request, keys, limits)
  const acquired = models.acquire(request.model, versionChoice(request.version, options))
  const handle = acquired instanceof Promise ? await acquired : acquired
  try {
    checkNames(handle, request)
    const answered = await handle.infer(request.inputs, rowCount(handle, request.inputs), limits)
    return { version: handle.version, split, outputs: outputs.length === 0 ? [...answered] : asked(handle, outputs, answered) }
  } finally {
    handle.release()
  }
}

async function byKeys(
  models: Models,
  request: InferExchange,
  keys: (rowCount: number) => readonly string[],
  limits: InferOptions,
): Promise<InferAnswer> {
  const { model, inputs } = request
  const [input] = inputs.values()
  const rows = { model, inputs, keys: keys(input?.shape[0] ?? 0) }
  const { version, rowVersions, outputs } = await inferByKey(models, rows, async (handle, own, count) => {
    checkNames(handle, request)
    const answered = await handle.infer(own, count, limits)
    return request.outputs.length === 0 ? answered : new Map(asked(handle, request.outputs, answered))
  })
  return { version, rowVersions: rowVersions ?? rows.keys.map(() => version), split: true, outputs: [...outputs] }
}

/** A model whose first dimension is not the row is run once for each request. */
function rowCount({ signature }: ModelHandle, inputs: Tensors): number {
  if (signature.wholeShapes !== undefined) return 1
  for (const { shape } of inputs.values()) return shape[0] ?? 0
  return 0
}

function checkNames({ signature }: ModelHandle, { model, inputs, outputs }: InferExchange): void {
  for (const name of inputs.keys()) {
    if (signature.inputs.has(name)) continue
    throw invalid(name, `unexpected inference input '${name}' for model '${model}': its inputs are ${list(signature.inputs.keys())}`)
  }
  for (const { name } of outputs) {
    if (signature.outputs.has(name)) continue
    throw invalid(name, `unexpected inference output '${name}' for model '${model}': its outputs are ${list(signature.outputs.keys())}`)
  }
}

function asked(handle: ModelHandle, requested: readonly RequestedOutput[], outputs: Tensors): (readonly [string, Tensor])[] {
  const answered: (readonly [string, Tensor])[] = []
  const names = new Set<string>()
  for (const { name, parameters } of requested) {
    if (names.has(name)) throw invalid(name, `output "${name}" is asked for twice`)
    names.add(name)
    const tensor = outputs.get(name)
    if (tensor === undefined) throw new MeshError('INTERNAL', `model "${handle.model}" gave no output "${name}"`)
    const count = parameters.size === 0 ? undefined : classCount(name, parameters)
    const batched = handle.signature.wholeShapes === undefined
    answered.push([name, count === undefined ? tensor : classify(name, tensor, count, batched, handle.classLabels.get(name))])
  }
  return answered
}

function classCount(name: string, parameters: Parameters): number | undefined {
  if (parameters.has('shared_memory_region'))
    throw invalid(name, `output "${name}" is asked for in shared memory, which this server does not support`)
  const count = parameters.get('classification')
  if (count === undefined) return undefined
  if (typeof count === 'number' && Number.isInteger(count) && count > 0) return count
  if (typeof count === 'bigint' && count > 0n && count <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(count)
  const given = typeof count === 'string' ? `"${count}"` : count
  throw invalid(name, `output "${name}": parameter "classification" is ${given}: expected a whole number above 0`)
}

function list(names: Iterable<string>): string {
  return Array.from(names, (name) => `"${name}"`).join(', ')
}

function invalid(field: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', message, { field })
}
