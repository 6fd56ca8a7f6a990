import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { logisticModel, onnxModel, writeModel } from '../onnx-builder.ts'

/** The words of `text-repository/vocabulary`, each with how good and how bad it is; before them no word and an unknown one. */
const meanings = [
  [0, 0],
  [0, 0],
  [1, 0],
  [2, 0],
  [0.5, 0],
  [0, 1],
  [0, 2],
  [0, 0.5],
  [0, 0],
] as const

/** `ids` INT64 [rows, 8] to `vector` FP32 [rows, 2]: the sum of the words' meanings. */
function embedding(): Uint8Array {
  return onnxModel({
    inputs: [{ name: 'ids', datatype: 'INT64', shape: ['rows', 8] }],
    outputs: [{ name: 'vector', datatype: 'FP32', shape: ['rows', 2] }],
    initializers: [
      { name: 'table', shape: [meanings.length, 2], data: Float32Array.from(meanings.flat()) },
      { name: 'axis', shape: [1], data: BigInt64Array.of(1n) },
    ],
    nodes: [
      { op: 'Gather', inputs: ['table', 'ids'], outputs: ['words'], attributes: { axis: { int: 0 } } },
      { op: 'ReduceSum', inputs: ['words', 'axis'], outputs: ['vector'], attributes: { keepdims: { int: 0 } } },
    ],
  })
}

/** `features` FP32 [rows, 2] to `score` FP32 [rows, 1], with this bias. */
export function classifier(bias: number): Uint8Array {
  return logisticModel([1, -1], bias)
}

/** What `sentiment` answers of a text that is so much more good than bad. */
export function score(good: number, bias = 0): number {
  return 1 / (1 + Math.exp(-(good + bias)))
}

/** The repository of `text-repository`, with its ONNX models: `vocabulary`, `embedding`, `classifier`, and `sentiment`, which is made of them. */
export async function writeTextModels(repository: string): Promise<void> {
  await cp(join(import.meta.dirname, '../text-repository'), repository, { recursive: true })
  // An ensemble has no file, and its version is a folder all the same.
  await mkdir(join(repository, 'sentiment/1'))
  await writeModel(repository, 'embedding', 1, embedding())
  await writeModel(repository, 'classifier', 1, classifier(0))
}
