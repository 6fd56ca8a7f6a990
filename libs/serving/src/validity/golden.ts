import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError, type Tensor } from '@spillway/core'
import { type GoldenRequest, readGoldenRequests } from '@spillway/wire'
import type { Backend, Tensors } from '../backend.ts'
import { checkInputs } from '../batching/check-inputs.ts'
import { runRows } from './run-rows.ts'
import { difference } from './tensor-difference.ts'

/** Beside the version's model: what it must answer before it takes traffic. */
const goldenFile = 'golden.json'
const defaultTolerance = 1e-6

/**
 * Holds a version against its `golden.json`, where it has one.
 * @returns how many requests held
 * @throws MeshError FAILED_PRECONDITION naming the request, the output and the first element that differs, or what is wrong in the file
 */
export async function checkGolden(backend: Backend, model: string, folder: string, signal: AbortSignal): Promise<number> {
  const path = join(folder, goldenFile)
  const json = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new MeshError('FAILED_PRECONDITION', `${path} cannot be read: ${error.message}`, { cause: error })
  })
  if (json === undefined) return 0
  const requests = readRequests(path, json)
  for (const [index, { inputs, outputs, tolerance = defaultTolerance }] of requests.entries()) {
    const at = `${path}: requests[${index}]`
    const rowCount = (inputs.values().next().value as Tensor | undefined)?.shape[0] ?? 0
    let answer: Tensors
    try {
      checkInputs(model, backend.signature, inputs, rowCount)
      answer = await runRows(backend, inputs, rowCount, signal)
    } catch (thrown) {
      throw new MeshError('FAILED_PRECONDITION', `${at} fails: ${MeshError.from(thrown).message}`, { cause: thrown })
    }
    for (const [name, expected] of outputs) checkOutput(at, name, expected, answer.get(name), tolerance)
  }
  return requests.length
}

function checkOutput(at: string, name: string, expected: Tensor, actual: Tensor | undefined, tolerance: number): void {
  const text = ({ datatype, shape }: Tensor): string => `${datatype} of shape [${shape.join(', ')}]`
  if (actual === undefined) throw refused(`${at}: the model has no output "${name}"`)
  if (text(actual) !== text(expected)) throw refused(`${at}: output "${name}" is ${text(actual)}: expected ${text(expected)}`)
  const found = difference(expected, actual, tolerance)
  if (found === undefined) return
  throw refused(
    `${at}: output "${name}" differs in ${found.rowCount} of ${expected.shape[0] ?? 1} rows by more than ${tolerance}: ` +
      `element ${found.index} is ${found.actual}, expected ${found.expected}`,
  )
}

function readRequests(path: string, json: Uint8Array): readonly GoldenRequest[] {
  try {
    return readGoldenRequests(json)
  } catch (thrown) {
    throw refused(`${path}: ${MeshError.from(thrown).message}`, thrown)
  }
}

function refused(message: string, cause?: unknown): MeshError {
  return new MeshError('FAILED_PRECONDITION', message, cause === undefined ? {} : { cause })
}
