import type { Tensor } from '@spillway/core'
import type { Tensors } from '../backend.ts'
import type { ModelHandle } from '../models.ts'
import { difference } from '../validity/tensor-difference.ts'
import type { ShadowMetrics } from '../lifecycle/lifecycle-metrics.ts'

/** What copies may hold at most while they wait: beyond it calls go without one. */
const mostCopies = 256
const mostBytes = 32 * 1024 * 1024

/** How long a copy may take: its answer is of no use to anybody waiting. */
const longestMs = 10_000

/** Two versions that agree to this say the same: runtimes differ in the last bits between batch sizes. */
const tolerance = 1e-5

/** What of a call is given to the shadow when the caller has its answer. */
export interface ShadowCopy {
  readonly inputs: Tensors
  readonly rowCount: number
  readonly bytes: number
}

/**
 * Gives copies of a model's calls to one of its versions and compares the answers. The caller is answered first and never fails by it; copies beyond the bound are
 * dropped. Everything is counted.
 */
export class Shadow {
  readonly #acquire: () => ModelHandle
  readonly #metrics: ShadowMetrics
  readonly #never: AbortSignal = new AbortController().signal
  #copies = 0
  #bytes = 0

  /** @param acquire of the version that is given the copies */
  constructor(acquire: () => ModelHandle, metrics: ShadowMetrics) {
    this.#acquire = acquire
    this.#metrics = metrics
  }

  /** Before the call, since a backend may keep its tensors. Undefined where too many wait. */
  copy(inputs: Tensors, rowCount: number): ShadowCopy | undefined {
    let bytes = 0
    for (const { data } of inputs.values()) bytes += 'bytes' in data ? data.bytes.byteLength + data.offsets.byteLength : data.byteLength
    if (this.#copies >= mostCopies || this.#bytes + bytes > mostBytes) {
      this.#metrics.call('dropped')
      return undefined
    }
    this.#copies++
    this.#bytes += bytes
    return { inputs: new Map(Array.from(inputs, ([name, tensor]) => [name, copyTensor(tensor)])), rowCount, bytes }
  }

  /** Compares, once the caller's answer is there. Never rejects. */
  compare(copy: ShadowCopy, answer: Promise<Tensors>): void {
    const done = (): void => {
      this.#copies--
      this.#bytes -= copy.bytes
    }
    answer.then(
      (outputs) => setImmediate(() => void this.#run(copy, outputs).finally(done)),
      // There is nothing to compare with.
      done,
    )
  }

  async #run({ inputs, rowCount }: ShadowCopy, expected: Tensors): Promise<void> {
    try {
      const handle = this.#acquire()
      try {
        const actual = await handle.infer(inputs, rowCount, { deadlineMs: Date.now() + longestMs, signal: this.#never })
        this.#count(expected, actual, rowCount)
      } finally {
        handle.release()
      }
    } catch {
      // The failure is the shadow version's, and its statistics say which.
      this.#metrics.call('failed')
    }
  }

  #count(expected: Tensors, actual: Tensors, rowCount: number): void {
    let differing = 0
    for (const [name, output] of expected) {
      const other = actual.get(name)
      if (other?.datatype !== output.datatype || other.shape.join() !== output.shape.join()) differing = rowCount
      else differing = Math.max(differing, difference(output, other, tolerance)?.rowCount ?? 0)
    }
    this.#metrics.call(differing === 0 ? 'same' : 'different')
    this.#metrics.rows(rowCount, differing)
  }
}

function copyTensor(tensor: Tensor): Tensor {
  if (tensor.datatype === 'BYTES')
    return { ...tensor, data: { bytes: new Uint8Array(tensor.data.bytes), offsets: new Uint32Array(tensor.data.offsets) } }
  // TypedArray's slice, also where the array is a Buffer, whose own is a view.
  return { ...tensor, data: Uint8Array.prototype.slice.call(tensor.data) } as Tensor
}
