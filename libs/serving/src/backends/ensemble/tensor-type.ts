import type { Datatype, Tensor } from '@spillway/core'
import type { ModelSignature } from '../../backend.ts'
import type { TensorConfig } from '../../config/model-config.ts'

/** A tensor's datatype and whole shape: the row is its first dimension where rows are batched; -1 is any size. */
export interface TensorType {
  readonly datatype: Datatype
  readonly shape: readonly number[]
}

/** Undefined where the signature has no such tensor. */
export function typeOf(signature: ModelSignature, kind: 'inputs' | 'outputs', name: string): TensorType | undefined {
  const type = signature[kind].get(name)
  if (type === undefined) return undefined
  return { datatype: type.datatype, shape: signature.wholeShapes?.get(name) ?? [-1, ...type.rowShape] }
}

/** What is known of a tensor that is both; undefined where none can be. */
export function meet(a: TensorType, b: TensorType): TensorType | undefined {
  if (a.datatype !== b.datatype || a.shape.length !== b.shape.length) return undefined
  const shape: number[] = []
  for (const [i, size] of a.shape.entries()) {
    const other = b.shape[i]!
    if (size !== other && size !== -1 && other !== -1) return undefined
    shape.push(size === -1 ? other : size)
  }
  return { datatype: a.datatype, shape }
}

/** As a config says it, held against what is known: a value a row is written as [1], since config.pbtxt has no empty `dims`. */
export function configType({ datatype, dims }: TensorConfig, known: TensorType, batched: boolean): TensorType {
  const own = dims.length === 1 && dims[0] === 1 && known.shape.length === (batched ? 1 : 0) ? [] : dims
  return { datatype, shape: batched ? [-1, ...own] : own }
}

/** As messages show it: `FP32 [rows, 15]`. */
export function textOf({ datatype, shape }: TensorType, batched: boolean): string {
  return `${datatype} [${shape.map((size, i) => (size === -1 ? (batched && i === 0 ? 'rows' : 'any') : size)).join(', ')}]`
}

/** A tensor that is no rows, as the one row of a batch. */
export function asRow(tensor: Tensor): Tensor {
  return { ...tensor, shape: [1, ...tensor.shape] } as Tensor
}

export function ofRow(tensor: Tensor): Tensor {
  return { ...tensor, shape: tensor.shape.slice(1) } as Tensor
}
