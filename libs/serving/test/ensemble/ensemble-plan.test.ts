import type { ColumnType, Datatype } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { planEnsemble } from '../../src/backends/ensemble/ensemble-plan.ts'
import type { ModelSignature } from '../../src/backend.ts'
import type { EnsembleStep, ModelConfig, TensorConfig } from '../../src/config/model-config.ts'

type Tensors = Readonly<Record<string, readonly [Datatype, ...number[]]>>

const columns = (tensors: Tensors): Map<string, ColumnType> =>
  new Map(Object.entries(tensors).map(([name, [datatype, ...rowShape]]) => [name, { datatype, rowShape }]))
const rowsOf = (inputs: Tensors, outputs: Tensors): ModelSignature => ({ inputs: columns(inputs), outputs: columns(outputs) })
const wholeOf = (inputs: Tensors, outputs: Tensors): ModelSignature => ({
  ...rowsOf(inputs, outputs),
  wholeShapes: new Map(Object.entries({ ...inputs, ...outputs }).map(([name, [, ...shape]]) => [name, shape])),
})

const signatures: Readonly<Record<string, ModelSignature>> = {
  words: rowsOf({ text: ['BYTES'] }, { ids: ['INT64', 8], count: ['INT64'] }),
  embed: rowsOf({ ids: ['INT64', -1] }, { vector: ['FP32', 2] }),
  judge: rowsOf({ features: ['FP32', 2] }, { score: ['FP32'] }),
  both: rowsOf({ a: ['FP32', 2], b: ['FP32', 2] }, { sum: ['FP32', 2] }),
  turn: rowsOf({ x: ['FP32', 2] }, { y: ['FP32', 2] }),
  whole: wholeOf({ x: ['FP32', 3, 2] }, { y: ['FP32', 3, 2] }),
}

const step = (model: string, inputs: Readonly<Record<string, string>>, outputs: Readonly<Record<string, string>>): EnsembleStep => ({
  model,
  inputs: new Map(Object.entries(inputs)),
  outputs: new Map(Object.entries(outputs)),
})
const tensorOf = (name: string, datatype: Datatype, ...dims: number[]): TensorConfig => ({ name, datatype, dims })

const base: ModelConfig = {
  name: 'texts',
  backend: 'ensemble',
  platform: 'ensemble',
  versionPolicy: { kind: 'latest', count: 1 },
  warmup: [],
  parameters: new Map(),
}
const words = step('words', { text: 'text' }, { ids: 'ids' })
const embed = step('embed', { ids: 'ids' }, { vector: 'vector' })
const judge = step('judge', { features: 'vector' }, { score: 'score' })
const plan = (ensemble: readonly EnsembleStep[], more: Partial<ModelConfig> = {}): ReturnType<typeof planEnsemble> =>
  planEnsemble(
    { ...base, ensemble, ...more },
    ensemble.map(({ model }) => signatures[model]!),
  )

describe('an ensemble', () => {
  test('has the signature that its steps leave open, and runs rows where all of them do', () => {
    const { signature, maxBatchRows, batched, steps } = plan([judge, words, embed])
    expect([...signature.inputs]).toEqual([['text', { datatype: 'BYTES', rowShape: [] }]])
    expect([...signature.outputs]).toEqual([['score', { datatype: 'FP32', rowShape: [] }]])
    expect([maxBatchRows, batched, signature.wholeShapes]).toEqual([Infinity, true, undefined])
    expect(steps.map(({ follows }) => follows)).toEqual([[2], [], [1]])
  })

  test('has the tensors that its config names, as narrow as config and models know them', () => {
    const { signature, maxBatchRows } = plan([embed, step('judge', { features: 'vector' }, { score: 'score' })], {
      maxBatchSize: 32,
      inputs: [tensorOf('ids', 'INT64', 5)],
      outputs: [tensorOf('score', 'FP32', 1), tensorOf('vector', 'FP32', -1)],
    })
    expect([...signature.inputs.values()]).toEqual([{ datatype: 'INT64', rowShape: [5] }])
    expect([...signature.outputs]).toEqual([
      ['score', { datatype: 'FP32', rowShape: [] }],
      ['vector', { datatype: 'FP32', rowShape: [2] }],
    ])
    expect(maxBatchRows).toBe(32)
  })

  test('waits with a step for those alone that no other of its steps waits for', () => {
    const { steps } = plan([
      step('turn', { x: 'x' }, { y: 'a' }),
      step('turn', { x: 'a' }, { y: 'b' }),
      step('turn', { x: 'a' }, { y: 'c' }),
      step('both', { a: 'b', b: 'c' }, { sum: 'd' }),
      step('both', { a: 'a', b: 'd' }, { sum: 'e' }),
      step('both', { a: 'x', b: 'x' }, { sum: 'f' }),
    ])
    expect(steps.map(({ follows }) => follows)).toEqual([[], [0], [0], [1, 2], [3], []])
  })

  test('of whole tensors may have steps that take rows', () => {
    const { signature, batched } = plan([step('whole', { x: 'x' }, { y: 'y' }), step('turn', { x: 'y' }, { y: 'z' })])
    expect(batched).toBe(false)
    expect(signature.wholeShapes).toEqual(
      new Map([
        ['x', [3, 2]],
        ['z', [-1, 2]],
      ]),
    )
  })
})

type Case = readonly [string, readonly EnsembleStep[], Partial<ModelConfig>, string, RegExp]
const at = (index: number, more: string): string => `ensemble_scheduling.step[${index}].${more}`

test.each<Case>([
  ['has no steps', [], {}, 'ensemble_scheduling.step', /has no steps/],
  [
    'maps an input that the model has not',
    [step('words', { text: 'text', words: 'text' }, { ids: 'ids' })],
    {},
    at(0, 'input_map.words'),
    /step\[0\] \(model "words"\) has no input "words": its model has text/,
  ],
  [
    'leaves an input of a model open',
    [step('both', { a: 'x' }, { sum: 'y' })],
    {},
    at(0, 'input_map.b'),
    /step\[0\] \(model "both"\): nothing is mapped to its model's input "b"/,
  ],
  [
    'maps an output that the model has not',
    [step('words', { text: 'text' }, { tokens: 'ids' })],
    {},
    at(0, 'output_map.tokens'),
    /step\[0\] \(model "words"\) has no output "tokens": its model has ids, count/,
  ],
  [
    'makes a tensor twice',
    [words, step('words', { text: 'text' }, { ids: 'ids' })],
    {},
    at(1, 'output_map.ids'),
    /step\[1\] \(model "words"\) makes tensor "ids", which step\[0\] \(model "words"\) makes too/,
  ],
  [
    'makes one of its own inputs',
    [step('turn', { x: 'x' }, { y: 'x' })],
    { inputs: [tensorOf('x', 'FP32', 2)] },
    at(0, 'output_map.y'),
    /makes tensor "x", which is an input of the ensemble/,
  ],
  [
    'reads a tensor that nothing makes',
    [words, step('embed', { ids: 'tokens' }, { vector: 'vector' })],
    { inputs: [tensorOf('text', 'BYTES', 1)] },
    at(1, 'input_map.ids'),
    /step\[1\] \(model "embed"\): its model's input "ids" is given tensor "tokens", which there is none of: there are text, ids, vector/,
  ],
  [
    'gives a step another datatype',
    [words, step('judge', { features: 'ids' }, { score: 'score' })],
    {},
    at(1, 'input_map.features'),
    /is given tensor "ids", which step\[0\] \(model "words"\) makes as INT64 \[rows, 8\]: expected FP32 \[rows, 2\]/,
  ],
  [
    'gives a step another shape',
    [step('words', { text: 'text' }, { count: 'ids' }), embed],
    {},
    at(1, 'input_map.ids'),
    /which step\[0\] \(model "words"\) makes as INT64 \[rows\]: expected INT64 \[rows, any\]/,
  ],
  [
    'gives one input to steps that want different ones',
    [step('turn', { x: 'x' }, { y: 'y' }), step('embed', { ids: 'x' }, { vector: 'z' })],
    {},
    at(1, 'input_map.ids'),
    /given tensor "x", which step\[0\] \(model "turn"\) needs as FP32 \[rows, 2\]: expected INT64 \[rows, any\]/,
  ],
  [
    'goes in a circle',
    [step('turn', { x: 'b' }, { y: 'a' }), step('turn', { x: 'a' }, { y: 'b' }), step('turn', { x: 'b' }, { y: 'c' })],
    { outputs: [tensorOf('c', 'FP32', 2)] },
    'ensemble_scheduling.step',
    /step\[0\] \(model "turn"\), step\[1\] \(model "turn"\): each waits for what another of them makes/,
  ],
  [
    'has an input that no step reads',
    [words],
    { inputs: [tensorOf('text', 'BYTES', 1), tensorOf('language', 'BYTES', 1)] },
    'input[1].name',
    /input "language" is read by no step/,
  ],
  [
    'has an output that no step makes',
    [words],
    { outputs: [tensorOf('score', 'FP32', 1)] },
    'output[0].name',
    /output "score" is made by no step: they make ids/,
  ],
  [
    'declares an input of another datatype',
    [words],
    { inputs: [tensorOf('text', 'INT64', 1)] },
    'input[0].data_type',
    /input "text" is INT64 \[rows\] in its config: its steps have it as BYTES \[rows\]/,
  ],
  [
    'declares an output of another shape',
    [words, embed],
    { outputs: [tensorOf('vector', 'FP32', 3)] },
    'output[0].dims',
    /output "vector" is FP32 \[rows, 3\] in its config: its steps have it as FP32 \[rows, 2\]/,
  ],
  [
    'runs rows through a model that takes none',
    [step('whole', { x: 'x' }, { y: 'y' })],
    { maxBatchSize: 8 },
    'max_batch_size',
    /step\[0\] \(model "whole"\): its model takes whole tensors, not rows: expected max_batch_size 0/,
  ],
  [
    'gives whole tensors that do not fit',
    [step('whole', { x: 'x' }, { y: 'y' }), step('judge', { features: 'y' }, { score: 'z' }), step('embed', { ids: 'y' }, { vector: 'v' })],
    { maxBatchSize: 0 },
    at(2, 'input_map.ids'),
    /makes as FP32 \[3, 2\]: expected INT64 \[any, any\]/,
  ],
])('an ensemble that %s is refused', (_, ensemble, more, field, message) => {
  expect(() => plan(ensemble, more)).toThrow(
    expect.objectContaining({ code: 'FAILED_PRECONDITION', field, message: expect.stringMatching(message) as string }) as Error,
  )
  expect(() => plan(ensemble, more)).toThrow('ensemble "texts"')
})
