import {
  type Batch,
  column,
  earliestDeadlineMs,
  MeshError,
  type Signature,
  type Stage,
  type StageContext,
  type StageResult,
  type Tensor,
  withColumns,
} from '@spillway/core'
import type { Tensors } from '../../backend.ts'
import type { ModelHandle, Models } from '../../models.ts'
import type { PlannedStep } from './ensemble-plan.ts'
import { asRow, ofRow, type TensorType } from './tensor-type.ts'

export interface StepStageOptions {
  readonly ensemble: string
  readonly step: PlannedStep
  readonly batched: boolean
  /** What follows it: the rows leave on a port for each. */
  readonly ports: readonly string[]
  readonly models: () => Models
}

/** A step of an ensemble: gives columns of the rows to a model, as any caller would, and adds its outputs to them. */
export class StepStage implements Stage {
  readonly name: string
  readonly accepts: Signature
  readonly ports: Readonly<Record<string, Signature>>
  readonly #options: StepStageOptions

  constructor(options: StepStageOptions) {
    const { ensemble, step, batched, ports } = options
    this.#options = options
    this.name = `ensemble "${ensemble}", ${step.title}`
    this.accepts = columnsOf(step.reads, batched)
    this.ports = Object.fromEntries(ports.map((port) => [port, new Map()]))
  }

  /** @throws MeshError naming ensemble, step and model; its field is the ensemble's tensor */
  async process(batch: Batch, { signal }: StageContext): Promise<StageResult> {
    const { batched, step, ports } = this.#options
    const inputs = new Map<string, Tensor>()
    for (const [input, tensor] of step.inputs) inputs.set(input, batched ? column(batch, tensor) : ofRow(column(batch, tensor)))
    // A model that takes rows, of an ensemble that does not: the rows are its tensors' first dimension.
    const rowCount = batched ? batch.rowCount : (inputs.values().next().value?.shape[0] ?? 1)
    const outputs = await this.#infer(inputs, rowCount, earliestDeadlineMs(batch.meta.deadlinesMs), signal)
    const added = Array.from(step.outputs, ([output, tensor]): readonly [string, Tensor] => {
      const given = outputs.get(output)
      if (given === undefined) throw new MeshError('INTERNAL', `${this.name} gave no output "${output}"`, { field: tensor })
      return [tensor, batched ? given : asRow(given)]
    })
    const rows = withColumns(batch, added)
    return { outputs: new Map(ports.map((port) => [port, rows])), failures: [] }
  }

  async #infer(inputs: Tensors, rowCount: number, deadlineMs: number, signal: AbortSignal): Promise<Tensors> {
    const handle = await this.#acquire()
    try {
      return await handle.infer(inputs, rowCount, { deadlineMs, signal })
    } catch (thrown) {
      const { code, message, field } = MeshError.from(thrown, 'INTERNAL')
      const tensor = field === undefined ? undefined : this.#options.step.inputs.get(field)
      throw new MeshError(code, `${this.name}: ${message}`, { cause: thrown, ...(tensor !== undefined && { field: tensor }) })
    } finally {
      handle.release()
    }
  }

  /** The version that calls go to now. */
  async #acquire(): Promise<ModelHandle> {
    const { step, models } = this.#options
    try {
      return await models().acquire(step.model, step.version === undefined ? {} : { version: step.version })
    } catch (thrown) {
      const error = MeshError.from(thrown)
      // That it is not there says nothing of the call.
      throw new MeshError(error.retryable ? error.code : 'UNAVAILABLE', `${this.name}: ${error.message}`, { cause: thrown })
    }
  }
}

/** As columns of a batch: without the row, or whole where the batch is one row. */
export function columnsOf(types: ReadonlyMap<string, TensorType>, batched: boolean): Signature {
  return new Map(Array.from(types, ([name, { datatype, shape }]) => [name, { datatype, rowShape: batched ? shape.slice(1) : shape }]))
}
