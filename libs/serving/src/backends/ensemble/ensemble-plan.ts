import { MeshError, type Signature } from '@spillway/core'
import type { ModelSignature } from '../../backend.ts'
import type { EnsembleStep, ModelConfig, TensorConfig } from '../../config/model-config.ts'
import { stepOrder } from './step-order.ts'
import { configType, meet, type TensorType, textOf, typeOf } from './tensor-type.ts'

/** What an ensemble is, held against the models of its steps. */
export interface EnsemblePlan {
  readonly signature: ModelSignature
  readonly maxBatchRows: number
  /** Whether the first dimension of its tensors is the row. */
  readonly batched: boolean
  readonly steps: readonly PlannedStep[]
}

export interface PlannedStep extends EnsembleStep {
  /** As messages name it: `step[1] (model "embedding")`. */
  readonly title: string
  /** Places of the steps that it follows: all that it needs has been made when these are done. Empty: it needs the ensemble's inputs alone. */
  readonly follows: readonly number[]
  /** What it reads, by the ensemble's tensor. */
  readonly reads: ReadonlyMap<string, TensorType>
}

/**
 * Compiles `ensemble_scheduling`. Outputs of steps that nobody reads are allowed. Without `input` and `output` in the config its inputs are the tensors that no step
 * makes, its outputs those that no step reads; without `max_batch_size` it is batched where all its steps are.
 * @param signatures of the steps' models, in their order
 * @throws MeshError FAILED_PRECONDITION naming ensemble, step and tensor, and what was expected, with the setting as its field
 */
export function planEnsemble(config: ModelConfig, signatures: readonly ModelSignature[]): EnsemblePlan {
  return new Planner(config, signatures).plan()
}

/** As messages name a step. */
export function stepTitle(index: number, { model, version }: EnsembleStep): string {
  return `step[${index}] (model "${model}"${version === undefined ? '' : ` version ${version}`})`
}

/** A tensor of the ensemble: made by a step, or one of its inputs. */
interface Known {
  readonly type: TensorType
  /** Absent for an input. */
  readonly step?: number
}

class Planner {
  readonly #config: ModelConfig
  readonly #signatures: readonly ModelSignature[]
  readonly #steps: readonly EnsembleStep[]
  readonly #titles: readonly string[]
  readonly #batched: boolean
  readonly #made = new Map<string, Required<Known>>()
  readonly #inputs = new Map<string, { type: TensorType; reader: string }>()
  readonly #read = new Set<string>()

  constructor(config: ModelConfig, signatures: readonly ModelSignature[]) {
    this.#config = config
    this.#signatures = signatures
    this.#steps = config.ensemble ?? []
    this.#titles = this.#steps.map((step, index) => stepTitle(index, step))
    const whole = signatures.findIndex(({ wholeShapes }) => wholeShapes !== undefined)
    this.#batched = config.maxBatchSize === undefined ? whole < 0 : config.maxBatchSize > 0
    if (this.#steps.length === 0) throw this.#wrong('has no steps: expected one at least', 'ensemble_scheduling.step')
    if (this.#batched && whole >= 0)
      throw this.#wrong(
        `${this.#titles[whole]}: its model takes whole tensors, not rows: expected max_batch_size 0 of the ensemble`,
        'max_batch_size',
      )
  }

  plan(): EnsemblePlan {
    for (const index of this.#steps.keys()) this.#outputsOf(index)
    const reads = this.#steps.map((_, index) => this.#inputsOf(index))
    const order = stepOrder(reads.map((tensors) => [...tensors.keys()].flatMap((tensor) => this.#made.get(tensor)?.step ?? [])))
    if ('cycle' in order) {
      const titles = order.cycle.map((index) => this.#titles[index]).join(', ')
      throw this.#wrong(`${titles}: each waits for what another of them makes: expected steps without a cycle`, 'ensemble_scheduling.step')
    }
    const inputs = this.#declared('input', this.#config.inputs, new Map(Array.from(this.#inputs, ([name, { type }]) => [name, type])))
    const outputs = this.#declared('output', this.#config.outputs, this.#results())
    return {
      signature: this.#signature(inputs, outputs),
      maxBatchRows: this.#batched ? this.#config.maxBatchSize || Infinity : 1,
      batched: this.#batched,
      steps: this.#steps.map((step, index) => ({
        ...step,
        title: this.#titles[index]!,
        follows: order.follows[index]!,
        reads: reads[index]!,
      })),
    }
  }

  #outputsOf(index: number): void {
    const title = this.#titles[index]!
    const signature = this.#signatures[index]!
    for (const [output, tensor] of this.#steps[index]!.outputs) {
      const field = `ensemble_scheduling.step[${index}].output_map.${output}`
      const type = typeOf(signature, 'outputs', output)
      if (type === undefined)
        throw this.#wrong(`${title} has no output "${output}": its model has ${[...signature.outputs.keys()].join(', ')}`, field)
      const other = this.#made.get(tensor)
      if (other !== undefined)
        throw this.#wrong(`${title} makes tensor "${tensor}", which ${this.#titles[other.step]} makes too: expected another name`, field)
      if (this.#config.inputs?.some(({ name }) => name === tensor) === true)
        throw this.#wrong(`${title} makes tensor "${tensor}", which is an input of the ensemble: expected another name`, field)
      this.#made.set(tensor, { type, step: index })
    }
  }

  /** @returns what the step reads, by the ensemble's tensor */
  #inputsOf(index: number): ReadonlyMap<string, TensorType> {
    const title = this.#titles[index]!
    const signature = this.#signatures[index]!
    const { inputs } = this.#steps[index]!
    const field = `ensemble_scheduling.step[${index}].input_map`
    const missing = [...signature.inputs.keys()].find((input) => !inputs.has(input))
    if (missing !== undefined) throw this.#wrong(`${title}: nothing is mapped to its model's input "${missing}"`, `${field}.${missing}`)
    const reads = new Map<string, TensorType>()
    for (const [input, tensor] of inputs) {
      const expected = typeOf(signature, 'inputs', input)
      if (expected === undefined)
        throw this.#wrong(`${title} has no input "${input}": its model has ${[...signature.inputs.keys()].join(', ')}`, `${field}.${input}`)
      this.#reads(title, input, tensor, expected, `${field}.${input}`)
      reads.set(tensor, meet(reads.get(tensor) ?? expected, expected) ?? expected)
      this.#read.add(tensor)
    }
    return reads
  }

  #reads(title: string, input: string, tensor: string, expected: TensorType, field: string): void {
    const made = this.#made.get(tensor)
    const inputs = this.#config.inputs
    if (made === undefined && inputs !== undefined && !inputs.some(({ name }) => name === tensor)) {
      const known = [...inputs.map(({ name }) => name), ...this.#made.keys()].join(', ')
      throw this.#wrong(
        `${title}: its model's input "${input}" is given tensor "${tensor}", which there is none of: there are ${known}`,
        field,
      )
    }
    const before = made === undefined ? this.#inputs.get(tensor) : { type: made.type, reader: this.#titles[made.step]! }
    const both = before === undefined ? expected : meet(before.type, expected)
    if (both === undefined) {
      const who = made === undefined ? `${before!.reader} needs` : `${before!.reader} makes`
      throw this.#wrong(
        `${title}: its model's input "${input}" is given tensor "${tensor}", which ${who} as ${this.#text(before!.type)}: expected ${this.#text(expected)}`,
        field,
      )
    }
    if (made === undefined) this.#inputs.set(tensor, { type: both, reader: before?.reader ?? title })
  }

  /** What may be an output: all that is made where the config names outputs, else what nobody reads. */
  #results(): ReadonlyMap<string, TensorType> {
    const made = [...this.#made].filter(([tensor]) => this.#config.outputs !== undefined || !this.#read.has(tensor))
    return new Map(made.map(([tensor, { type }]) => [tensor, type]))
  }

  /** The tensors that the config names, or all, as narrow as both know them. */
  #declared(
    kind: 'input' | 'output',
    configs: readonly TensorConfig[] | undefined,
    known: ReadonlyMap<string, TensorType>,
  ): ReadonlyMap<string, TensorType> {
    if (configs === undefined) return known
    const types = new Map<string, TensorType>()
    for (const [index, config] of configs.entries()) {
      const { name, datatype } = config
      const type = known.get(name)
      if (type === undefined)
        throw this.#wrong(
          kind === 'input'
            ? `input "${name}" is read by no step`
            : `output "${name}" is made by no step: they make ${[...known.keys()].join(', ')}`,
          `${kind}[${index}].name`,
        )
      const own = configType(config, type, this.#batched)
      const both = meet(own, type)
      if (both === undefined)
        throw this.#wrong(
          `${kind} "${name}" is ${this.#text(own)} in its config: its steps have it as ${this.#text(type)}`,
          `${kind}[${index}].${datatype === type.datatype ? 'dims' : 'data_type'}`,
        )
      types.set(name, both)
    }
    return types
  }

  #signature(inputs: ReadonlyMap<string, TensorType>, outputs: ReadonlyMap<string, TensorType>): ModelSignature {
    const columns = (types: ReadonlyMap<string, TensorType>): Signature =>
      new Map(Array.from(types, ([name, { datatype, shape }]) => [name, { datatype, rowShape: shape.slice(1) }]))
    const signature = { inputs: columns(inputs), outputs: columns(outputs) }
    if (this.#batched) return signature
    return { ...signature, wholeShapes: new Map(Array.from([...inputs, ...outputs], ([name, { shape }]) => [name, shape])) }
  }

  #text(type: TensorType): string {
    return textOf(type, this.#batched)
  }

  #wrong(message: string, field: string): MeshError {
    return new MeshError('FAILED_PRECONDITION', `ensemble "${this.#config.name}": ${message}`, { field })
  }
}
