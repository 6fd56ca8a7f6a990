import { allocate, bytesColumn, elementCount, type Tensor } from '@spillway/core'
import type { ModelSignature, Tensors } from '../backend.ts'
import type { WorkerReply } from './model-worker.ts'

/** What was measured at load, µs, and what follows from it. */
export interface Placement {
  /** Runs of up to so many rows go in the calling thread; 0: all go to the workers; Infinity: none does. */
  readonly inlineRows: number
  /** From how many rows on a run gains nothing by more. */
  readonly enoughRows: number
  /** Of one row; Infinity where the model could not be run on made-up inputs. */
  readonly runUs: number
  /** What a worker adds to a run of one row: there and back. */
  readonly hopUs: number
}

/** A busy start makes a hop look dearer than it is: no run longer than this goes on the thread that serves everything else. */
const longestInlineUs = 250

/**
 * What a hop costs by what it takes: both threads are woken and put to sleep, and the worker finds the model in none of its caches. A worker's run of 8 rows of
 * a model of 1.6 MB takes 84 µs of a thread that does nothing else, and 180 of one that is called; the hop takes 41.
 */
const hopWeight = 4

/**
 * A run of so many µs hides what handing it over and answering it takes. Of a fixed time, not of so many hops: how long a hop takes at load differs by half from one
 * start to the next, and runs of twice the rows may leave a second worker nothing to do.
 */
const longRunUs = 1_500

/** What rows that are enough would save in a run of twice as many, as a part of what they take: less than this. */
const leastGain = 0.1

/** Longer runs are not tried for the gain of more rows. */
const longestTriedUs = 50_000

/** Tries at each count of rows: enough that one of them was not disturbed, few where a run is long. */
const tries = 40
const triesOfLongRuns = 3

/** Whether a run costs less than handing it over and getting it back. */
export function runsInline(runUs: number, hopUs: number): boolean {
  return runUs <= Math.min(hopWeight * hopUs, longestInlineUs)
}

/** Whether a run that takes so long has rows enough. @param largerUs what as many rows take in a run of twice as many */
export function hasEnoughRows(runUs: number, largerUs: number): boolean {
  return runUs >= longRunUs && largerUs > runUs * (1 - leastGain)
}

/**
 * Times runs of 1, 2, 4, … rows through a worker, the run apart from the hop there and back, up to the count from which more rows gain nothing.
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
  let isInline = true
  let last = first
  let { hopUs } = first
  for (let rows = 1; ;) {
    isInline &&= runsInline(last.runUs, last.hopUs)
    if (isInline) inlineRows = rows
    if (rows >= maxRows || last.runUs > longestTriedUs) break
    const more = Math.min(rows * 2, maxRows)
    const next = await timed(madeUpInputs(signature, more), call)
    // The first ones are slower than those that follow: neither thread's code is compiled yet.
    hopUs = Math.min(hopUs, next.hopUs)
    if (!isInline && hasEnoughRows(last.runUs, (next.runUs * rows) / more))
      return { inlineRows, enoughRows: rows, runUs: first.runUs, hopUs }
    rows = more
    last = next
  }
  return { inlineRows: isInline ? Infinity : inlineRows, enoughRows: maxRows, runUs: first.runUs, hopUs }
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
