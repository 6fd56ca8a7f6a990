import { allocate, bytesColumn, elementCount, type Tensor } from '@spillway/core'
import type { ModelSignature, Tensors } from '../backend.ts'
import type { WorkerReply } from './model-worker.ts'

/** What was measured at load, µs, and what follows from it. */
export interface Placement {
  /** Runs of up to so many rows go in the calling thread; 0: all go to the workers; Infinity: none does. */
  readonly inlineRows: number
  /** Of one row; Infinity where the model could not be run on made-up inputs. */
  readonly runUs: number
  /** What a worker adds to a run of one row: there and back. */
  readonly hopUs: number
}

/** A busy start makes a hop look dearer than it is: no run longer than this goes on the thread that serves everything else. */
const longestInlineUs = 250

/** Tries at each count of rows: enough that one of them was not disturbed, few where a run is long. */
const tries = 40
const triesOfLongRuns = 3

/** Whether a run costs less than handing it over and getting it back. */
export function runsInline(runUs: number, hopUs: number): boolean {
  return runUs <= Math.min(hopUs, longestInlineUs)
}

/**
 * Times runs of 1, 2, 4, … rows through a worker, the run apart from the hop there and back, up to the count from which the run costs more.
 * @param call runs one or more times
 * @throws as the run, where the model refuses made-up inputs
 */
export async function measurePlacement(
  signature: ModelSignature,
  maxRows: number,
  call: (parts: readonly Tensors[]) => Promise<WorkerReply>,
): Promise<Placement> {
  const first = await timed(madeUpInputs(signature, 1), call)
  let inlineRows = 0
  let last = first
  for (let rows = 1; runsInline(last.runUs, last.hopUs);) {
    inlineRows = rows
    if (rows === maxRows) {
      inlineRows = Infinity
      break
    }
    rows = Math.min(rows * 2, maxRows)
    last = await timed(madeUpInputs(signature, rows), call)
  }
  return { inlineRows, runUs: first.runUs, hopUs: first.hopUs }
}

async function timed(
  inputs: Tensors,
  call: (parts: readonly Tensors[]) => Promise<WorkerReply>,
): Promise<{ runUs: number; hopUs: number }> {
  // The least of each: what it takes where nothing else uses the machine meanwhile.
  let runUs = Infinity
  let hopUs = Infinity
  for (let i = 0; i < (runUs > longestInlineUs ? triesOfLongRuns : tries); i++) {
    const startedMs = performance.now()
    const reply = await call([inputs])
    runUs = Math.min(runUs, reply.runUs)
    hopUs = Math.min(hopUs, (performance.now() - startedMs) * 1000 - reply.runUs)
  }
  return { runUs, hopUs }
}

/** Zeros and empty strings; a dimension of any size is 1. */
function madeUpInputs({ inputs, wholeShapes }: ModelSignature, rows: number): Tensors {
  const made = new Map<string, Tensor>()
  for (const [name, { datatype, rowShape }] of inputs) {
    const shape = (wholeShapes?.get(name) ?? [rows, ...rowShape]).map((size) => (size === -1 ? 1 : size))
    const count = elementCount(shape)
    if (datatype === 'BYTES') made.set(name, { datatype, shape, data: bytesColumn(new Array<Uint8Array>(count).fill(new Uint8Array(0))) })
    else made.set(name, { datatype, shape, data: allocate(datatype, count) })
  }
  return made
}

/** Elements of all tensors: what a run costs where a dimension is of any size. */
export function elementsOf(parts: readonly Tensors[]): number {
  let elements = 0
  for (const part of parts) for (const { shape } of part.values()) elements += elementCount(shape)
  return elements
}

/** Elements of one row as it was measured. */
export function rowElements({ inputs, wholeShapes }: ModelSignature): number {
  let elements = 0
  for (const [name, { rowShape }] of inputs)
    elements += elementCount((wholeShapes?.get(name) ?? rowShape).map((size) => (size === -1 ? 1 : size)))
  return Math.max(1, elements)
}
