import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { type ColumnType, isCode, isDatatype, MeshError, type Tensor, textColumn, textValues } from '@spillway/core'
import type { ModelSignature, Tensors } from '../backend.ts'
import { checkOutputs } from './check-outputs.ts'
import type { ModelModule, ModuleContext, ModuleRun, ModuleTensor } from './model-module.ts'
import type { WorkerDescription } from './worker-protocol.ts'

export interface ModuleLoad extends ModuleContext {
  /** The module's file. */
  readonly path: string
  /** The config's; 0: its `dims` are whole shapes, and a request is run alone. */
  readonly maxBatchSize: number | undefined
}

/** A module as a model, in whatever thread this is. */
export class ModuleHost {
  readonly description: WorkerDescription
  readonly concurrency: number
  readonly #who: string
  readonly #module: ModelModule

  private constructor(who: string, module: ModelModule, description: WorkerDescription) {
    this.#who = who
    this.#module = module
    this.description = description
    this.concurrency = module.concurrency ?? 1
  }

  /** @throws MeshError FAILED_PRECONDITION naming model, file and what is wrong in it */
  static async open(load: ModuleLoad): Promise<ModuleHost> {
    const who = `model "${load.model}" (${load.path})`
    const module = await importModule(who, load.path)
    const description = describeModule(who, module, load.maxBatchSize)
    try {
      await module.start?.(load)
    } catch (error) {
      throw new MeshError('FAILED_PRECONDITION', `${who} cannot be started: ${textOf(error)}`, { cause: error })
    }
    return new ModuleHost(who, module, description)
  }

  /** @throws MeshError naming the model: with the code of what the module threw where that has one, else INTERNAL */
  async run(inputs: Tensors, signal: AbortSignal, deadlineMs: number): Promise<Tensors> {
    let outputs: Tensors
    try {
      outputs = await this.#module.run(inputs, { signal, deadlineMs, texts, textTensor })
    } catch (error) {
      throw this.#failed(error)
    }
    if (!(outputs instanceof Map)) throw new MeshError('INTERNAL', `${this.#who}: run answered no Map of tensors`)
    const rows = inputs.values().next().value?.shape[0] ?? 0
    checkOutputs(this.#who, this.description.signature, outputs, rows)
    return outputs
  }

  #failed(error: unknown): MeshError {
    const { code, field } = (error ?? {}) as { code?: unknown; field?: unknown }
    return new MeshError(isCode(code) ? code : 'INTERNAL', `${this.#who}: ${textOf(error)}`, {
      cause: error,
      ...(typeof field === 'string' ? { field } : {}),
    })
  }

  async stop(): Promise<void> {
    await this.#module.stop?.()
  }
}

async function importModule(who: string, path: string): Promise<ModelModule> {
  const url = pathToFileURL(path)
  // A file that is loaded again is read again.
  url.searchParams.set('load', randomUUID())
  let module: Partial<ModelModule>
  try {
    module = (await import(url.href)) as Partial<ModelModule>
  } catch (error) {
    throw new MeshError('FAILED_PRECONDITION', `${who} cannot be imported: ${textOf(error)}`, { cause: error })
  }
  const wrong = (what: string): MeshError =>
    new MeshError('FAILED_PRECONDITION', `${who} exports ${what}: expected inputs, outputs and a function run`)
  if (typeof module.run !== 'function') throw wrong('no function run')
  if (typeof module.inputs !== 'object' || typeof module.outputs !== 'object') throw wrong('no inputs or no outputs')
  return module as ModelModule
}

function describeModule(
  who: string,
  { inputs, outputs, maxBatchSize: own }: ModelModule,
  maxBatchSize: number | undefined,
): WorkerDescription {
  const read = (tensors: Readonly<Record<string, ModuleTensor>>, kind: string): [string, ColumnType][] =>
    Object.entries(tensors).map(([name, { datatype, dims = [] }]) => {
      if (isDatatype(datatype) && dims.every((size) => Number.isInteger(size) && size >= -1)) return [name, { datatype, rowShape: dims }]
      throw new MeshError(
        'FAILED_PRECONDITION',
        `${who}: ${kind} "${name}" is ${datatype} [${dims.join(', ')}]: expected an OIP datatype and whole numbers`,
      )
    })
  const columns = { inputs: read(inputs, 'input'), outputs: read(outputs, 'output') }
  if (maxBatchSize !== 0) {
    const signature: ModelSignature = { inputs: new Map(columns.inputs), outputs: new Map(columns.outputs) }
    return { signature, maxBatchRows: Math.min(own ?? Infinity, maxBatchSize ?? Infinity) }
  }
  const all = [...columns.inputs, ...columns.outputs]
  const wholeShapes = new Map(all.map(([name, { rowShape }]) => [name, rowShape]))
  const whole = (own: [string, ColumnType][]): Map<string, ColumnType> =>
    new Map(own.map(([name, { datatype, rowShape }]) => [name, { datatype, rowShape: rowShape.slice(1) }]))
  return { signature: { inputs: whole(columns.inputs), outputs: whole(columns.outputs), wholeShapes }, maxBatchRows: 1 }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

const texts: ModuleRun['texts'] = ({ datatype, data }) => {
  if (datatype !== 'BYTES' || !('bytes' in data)) throw new MeshError('INVALID_ARGUMENT', `texts of a ${datatype} tensor were asked for`)
  return textValues(data)
}

const textTensor = (values: readonly string[], shape: readonly number[] = [values.length]): Tensor => ({
  datatype: 'BYTES',
  shape,
  data: textColumn(values),
})
