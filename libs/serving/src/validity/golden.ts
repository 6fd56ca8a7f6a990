import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError, type Tensor } from '@spillway/core'
import type { Backend, Tensors } from '../backend.ts'
import { checkInputs } from '../batching/check-inputs.ts'
import { asNumber, parseExact, readTensors } from './golden-tensors.ts'
import { runRows } from './run-rows.ts'
import { difference } from './tensor-difference.ts'

/** Beside the version's model: what it must answer before it takes traffic. */
const goldenFile = 'golden.json'
const defaultTolerance = 1e-6

interface GoldenRequest {
  readonly inputs: Tensors
  /** Those that are compared; a model may have more. */
  readonly outputs: Tensors
  readonly tolerance: number
}

/**
 * Holds a version against its `golden.json`, where it has one.
 * @returns how many requests held
 * @throws MeshError FAILED_PRECONDITION naming the request, the output and the first element that differs, or what is wrong in the file
 */
export async function checkGolden(backend: Backend, model: string, folder: string, signal: AbortSignal): Promise<number> {
  const path = join(folder, goldenFile)
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new MeshError('FAILED_PRECONDITION', `${path} cannot be read: ${error.message}`, { cause: error })
  })
  if (text === undefined) return 0
  const requests = readGolden(path, text)
  for (const [index, request] of requests.entries()) {
    const at = `${path}: requests[${index}]`
    const rowCount = (request.inputs.values().next().value as Tensor | undefined)?.shape[0] ?? 0
    let answer: Tensors
    try {
      checkInputs(model, backend.signature, request.inputs, rowCount)
      answer = await runRows(backend, request.inputs, rowCount, signal)
    } catch (thrown) {
      throw new MeshError('FAILED_PRECONDITION', `${at} fails: ${MeshError.from(thrown).message}`, { cause: thrown })
    }
    for (const [name, expected] of request.outputs) checkOutput(at, name, expected, answer.get(name), request.tolerance)
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

function readGolden(path: string, text: string): readonly GoldenRequest[] {
  try {
    const { requests } = (parseExact(text) ?? {}) as { requests?: unknown }
    if (!Array.isArray(requests) || requests.length === 0)
      throw new MeshError('INVALID_ARGUMENT', 'expected {"requests": [{"inputs": […], "outputs": […]}]} with one request at least')
    return requests.map((request: unknown, index) => {
      const { inputs, outputs, tolerance } = (request ?? {}) as Record<string, unknown>
      const at = `requests[${index}]`
      const limit = tolerance === undefined ? defaultTolerance : asNumber(tolerance)
      if (limit === undefined || !(limit >= 0)) throw new MeshError('INVALID_ARGUMENT', `${at}.tolerance: expected a number, 0 or more`)
      return { inputs: readTensors(inputs, `${at}.inputs`), outputs: readTensors(outputs, `${at}.outputs`), tolerance: limit }
    })
  } catch (thrown) {
    throw refused(`${path}: ${MeshError.from(thrown).message}`, thrown)
  }
}

function refused(message: string, cause?: unknown): MeshError {
  return new MeshError('FAILED_PRECONDITION', message, cause === undefined ? {} : { cause })
}
