import { type MeshError, type Tensor, tensor } from '@spillway/core'
import { type inference, toRawTensors } from '@spillway/wire'

type InferRequest = inference.ModelInferRequest

/** A request with raw contents. */
export function request(model: string, inputs: Readonly<Record<string, Tensor>>, change: Partial<InferRequest> = {}): InferRequest {
  const { tensors, raw } = toRawTensors(Object.entries(inputs))
  return { modelName: model, modelVersion: '', id: '', parameters: {}, inputs: tensors, outputs: [], rawInputContents: raw, ...change }
}

/** Inputs of the model `pair`. */
export const pairOf = (a = 1): Record<string, Tensor> => ({
  a: tensor('FP32', [1, 2], Float32Array.of(a, 2)),
  n: tensor('INT64', [1], BigInt64Array.of(5n)),
})
export const parameter = (value: bigint | string | boolean): inference.InferParameter => ({
  parameterChoice:
    typeof value === 'bigint'
      ? { $case: 'int64Param', value }
      : typeof value === 'string'
        ? { $case: 'stringParam', value }
        : { $case: 'boolParam', value },
})

export async function refusal(promise: Promise<unknown>): Promise<MeshError> {
  const settled = await promise.then(
    () => undefined,
    (error: unknown) => error as MeshError,
  )
  if (settled === undefined) throw new Error('it should have been refused')
  return settled
}
