import { fileURLToPath } from 'node:url'
import { column, type Datatype, MeshError, rowMeta } from '@spillway/core'
import { compileFeatures, FeatureEngine, type FieldType, type HistoryStore } from '@spillway/features'
import { loadPipeline } from '@spillway/mesh'
import type { ModelModule, ModuleTensor } from '@spillway/serving'

// The columns of the pipeline file, computed by the engine that computes them in the mesh: equal events give equal vectors. What histories and look-ups say of an event
// (how often, how much) is not known here and comes with the request, one number a column.

const pipeline = await loadPipeline(fileURLToPath(new URL('../../../pipeline.yaml', import.meta.url)))
const { definition, inputs: events, options } = pipeline.featureSource
const [input, event] = [...events].find(([, { predict }]) => predict)!
const columns = Object.entries(definition?.columns ?? {})
const given = columns.filter(([, { window, lookup }]) => window !== undefined || lookup !== undefined).map(([name]) => name)
const made = columns.filter(([name]) => !given.includes(name))
const fields = new Map<string, FieldType>([...event.fields, ...given.map((name) => [name, 'number'] as const)])
const plan = compileFeatures(
  { ...definition, histories: {}, lookups: {}, columns: Object.fromEntries(made), vector: definition?.vector ?? [] },
  new Map([[input, { ...event, fields }]]),
  options,
)
const nowhere = (): never => {
  throw new MeshError('INTERNAL', 'a transform asked for a history')
}
const store = new Proxy({}, { get: nowhere }) as HistoryStore
const engine = new FeatureEngine({ plan, store })

const datatypes: Readonly<Record<FieldType, Datatype>> = {
  string: 'BYTES',
  number: 'FP64',
  integer: 'INT64',
  boolean: 'BOOL',
  timestamp: 'FP64',
}
/** Fields that the columns and the vector are made of. */
const read = new Set([...made.map(([, { field }]) => field), ...(definition?.vector ?? [])])

export const inputs: ModelModule['inputs'] = Object.fromEntries(
  [...fields].filter(([name]) => read.has(name)).map(([name, type]): [string, ModuleTensor] => [name, { datatype: datatypes[type] }]),
)
export const outputs: ModelModule['outputs'] = { features: { datatype: 'FP32', dims: [plan.vector.width] } }

export const run: ModelModule['run'] = async (columns) => {
  const rowCount = columns.values().next().value!.shape[0]!
  const { batch, failures } = await engine.compute({ rowCount, meta: rowMeta(rowCount), columns }, input, 'request')
  if (failures.length > 0) throw failures[0]!.error
  return new Map([['features', column(batch, plan.vector.column)]])
}
