import { MeshError, type Tensor } from '@spillway/core'
import { inferExchange, type InferExchange, type Models, rawInput, useModel } from '@spillway/serving'
import { type JsonOutput, type ParameterValue, readInferRequest, writeInferResponse } from '@spillway/wire'
import type { Answer, ModelCall } from './model-call.ts'
import type { ModelPath } from './oip-route.ts'

/** The binary tensor data extension's: how much of the body is JSON. */
const lengthHeader = 'inference-header-content-length'

interface Decoded extends InferExchange {
  readonly id: string
  /** Whether outputs are binary that say nothing of their own. */
  readonly binaryOutputs: boolean
}

/** `POST …/infer`. @throws MeshError why it is refused */
export async function answerInfer(
  models: Models,
  { model, version = '' }: ModelPath,
  { headers, body, signal }: ModelCall,
): Promise<Answer> {
  const header = headers[lengthHeader]
  const decoded =
    header === '0' ? await decodeRaw(models, model, version, body) : decodeJson(model, version, body, headerBytes(header, body))
  const answer = await inferExchange(models, decoded, { deadlineMs: Infinity, signal })
  const written = writeInferResponse({ id: decoded.id, model, version: answer.version, outputs: outputsOf(decoded, answer.outputs) })
  if (written.headerBytes === undefined) return { headers: ['content-type', 'application/json'], body: written.bytes }
  return { headers: ['content-type', 'application/octet-stream', lengthHeader, String(written.headerBytes)], body: written.bytes }
}

function headerBytes(header: string | string[] | undefined, body: Buffer): number {
  if (header === undefined) return body.length
  const length = typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined
  if (length === undefined)
    throw new MeshError(
      'INVALID_ARGUMENT',
      `Inference-Header-Content-Length is "${String(header).slice(0, 64)}": expected a count of bytes`,
    )
  if (length > body.length)
    throw new MeshError('INVALID_ARGUMENT', `Inference-Header-Content-Length is ${length}, but the body has ${body.length} bytes`)
  return length
}

function decodeJson(model: string, version: string, body: Buffer, jsonBytes: number): Decoded {
  const request = readInferRequest(body.subarray(0, jsonBytes), body.subarray(jsonBytes))
  const binaryOutputs = booleanParameter('binary_data_output', request.parameters) ?? false
  return { model, version, id: request.id, parameters: request.parameters, inputs: request.inputs, outputs: request.outputs, binaryOutputs }
}

/** The whole body is the model's one input; what comes back is binary too. */
async function decodeRaw(models: Models, model: string, version: string, body: Buffer): Promise<Decoded> {
  const { chosen, inputs } = await useModel(models, model, version, (handle) => ({
    chosen: handle.version,
    inputs: new Map([rawInput(model, handle.signature, body)]),
  }))
  return { model, version: chosen, id: '', parameters: noParameters, inputs, outputs: [], binaryOutputs: true }
}

const noParameters: ReadonlyMap<string, ParameterValue> = new Map()

function outputsOf({ outputs, binaryOutputs }: Decoded, answered: readonly (readonly [string, Tensor])[]): JsonOutput[] {
  return answered.map(([name, tensor], index) => {
    const parameters = outputs[index]?.parameters
    const own = parameters === undefined || parameters.size === 0 ? undefined : booleanParameter('binary_data', parameters)
    return { name, tensor, binary: own ?? binaryOutputs }
  })
}

function booleanParameter(name: string, parameters: ReadonlyMap<string, ParameterValue>): boolean | undefined {
  const value = parameters.get(name)
  if (value === undefined || typeof value === 'boolean') return value
  const given = typeof value === 'string' ? `"${value}"` : value
  throw new MeshError('INVALID_ARGUMENT', `parameter "${name}" is ${given}: expected true or false`, { field: name })
}
