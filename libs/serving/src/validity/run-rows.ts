import { concatTensors, sliceTensor, type Tensor } from '@spillway/core'
import type { Backend, Tensors } from '../backend.ts'

/** Runs rows without a batcher, in as many runs as the backend needs: of a version that takes no traffic yet. @throws as the backend does. */
export async function runRows(backend: Backend, inputs: Tensors, rowCount: number, signal: AbortSignal): Promise<Tensors> {
  const limit = backend.maxBatchRows
  if (rowCount <= limit || backend.signature.wholeShapes !== undefined) return backend.run(inputs, signal)
  const parts: Tensors[] = []
  for (let start = 0; start < rowCount; start += limit) {
    const slice = (tensor: Tensor): Tensor => sliceTensor(tensor, start, Math.min(start + limit, rowCount))
    parts.push(await backend.run(new Map(Array.from(inputs, ([name, tensor]) => [name, slice(tensor)])), signal))
  }
  return new Map(Array.from(parts[0]!.keys(), (name) => [name, concatTensors(parts.map((part) => part.get(name)!))]))
}
