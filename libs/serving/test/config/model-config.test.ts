import { MeshError } from '@spillway/core'
import { describe, expect, it } from 'vitest'
import { parseModelConfig, parseModelConfigJson } from '../../src/config/parse-model-config.ts'

const whole = `
# Everything that is read.
name: "fraud"
platform: "onnxruntime_onnx"
max_batch_size: 64
input [
  { name: "features" data_type: TYPE_FP32 dims: [ 15 ] },
  { name: "words" data_type: TYPE_STRING dims: -1 dims: 2 format: FORMAT_NONE }
]
output { name: "score" data_type: TYPE_FP32 dims: [ 1 ] label_filename: "classes.txt" }
version_policy: { specific: { versions: [1, 9223372036854775807] } }
instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_CPU name: "more" } ]
dynamic_batching {
  preferred_batch_size: [ 32, 8 ]
  max_queue_delay_microseconds: 1500
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 250000 allow_timeout_override: true max_queue_size: 100 }
}
optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "webgpu" } ] } }
model_warmup {
  name: "zeros" batch_size: 4 count: 3
  inputs { key: "features" value: { data_type: TYPE_FP32 dims: 15 zero_data: true } }
  inputs { key: "words" value: { data_type: TYPE_STRING dims: [3, 2] input_data_file: "words.bin" } }
}
default_model_filename: "fraud.onnx"
parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
parameters: { key: "same_signature" value { string_value: "true" } }
`

const read = (text: string, model = 'm'): ReturnType<typeof parseModelConfig> => parseModelConfig(text, model)

function refusal(attempt: () => unknown): MeshError {
  try {
    attempt()
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    expect((error as MeshError).code).toBe('INVALID_ARGUMENT')
    return error as MeshError
  }
  return expect.unreachable('it should have been refused')
}

describe('config.pbtxt', () => {
  it('is read whole', () => {
    expect(read(whole, 'fraud')).toEqual({
      warnings: [],
      config: {
        name: 'fraud',
        backend: 'onnxruntime',
        platform: 'onnxruntime_onnx',
        maxBatchSize: 64,
        inputs: [
          { name: 'features', datatype: 'FP32', dims: [15] },
          { name: 'words', datatype: 'BYTES', dims: [-1, 2] },
        ],
        outputs: [{ name: 'score', datatype: 'FP32', dims: [1], labelFile: 'classes.txt' }],
        versionPolicy: { kind: 'specific', versions: ['1', '9223372036854775807'] },
        instanceCount: 3,
        threadsPerRun: 4,
        executionProviders: ['webgpu'],
        batching: {
          preferredBatchSizes: [8, 32],
          maxQueueDelayMs: 1.5,
          maxQueueRows: 100,
          defaultTimeoutMs: 250,
          timeoutAction: 'delay',
          allowTimeoutOverride: true,
        },
        warmup: [
          {
            name: 'zeros',
            rowCount: 4,
            count: 3,
            inputs: new Map<string, unknown>([
              ['features', { datatype: 'FP32', dims: [15], data: 'zero' }],
              ['words', { datatype: 'BYTES', dims: [3, 2], data: { file: 'words.bin' } }],
            ]),
          },
        ],
        file: 'fraud.onnx',
        parameters: new Map([
          ['intra_op_thread_count', '4'],
          ['same_signature', 'true'],
        ]),
      },
    })
  })

  it('says little where it is empty: the rest is for the file to say', () => {
    expect(read('').config).toEqual({
      name: 'm',
      backend: 'onnxruntime',
      platform: 'onnxruntime_onnx',
      versionPolicy: { kind: 'latest', count: 1 },
      warmup: [],
      parameters: new Map(),
    })
  })

  it.each([
    ['version_policy { latest { num_versions: 3 } }', { versionPolicy: { kind: 'latest', count: 3 } }],
    ['version_policy: { latest: {} }', { versionPolicy: { kind: 'latest', count: 1 } }],
    ['version_policy { all {} }', { versionPolicy: { kind: 'all' } }],
    ['backend: "remote" parameters { key: "address" value { string_value: "h:1" } }', { backend: 'remote', platform: '' }],
    ['instance_group { kind: KIND_GPU }', { instanceCount: 1, executionProviders: ['cuda'] }],
    ['instance_group { kind: KIND_AUTO count: 2 }', { instanceCount: 2 }],
    ['instance_group { count: 4 kind: KIND_CPU }', { instanceCount: 4, executionProviders: ['cpu'] }],
    ['optimization { execution_accelerators { cpu_execution_accelerator { name: "OpenVINO" } } }', { executionProviders: ['openvino'] }],
    [
      'dynamic_batching { }',
      { batching: expect.objectContaining({ preferredBatchSizes: [], maxQueueDelayMs: 0, timeoutAction: 'reject' }) as unknown },
    ],
    ['max_batch_size: 0', { maxBatchSize: 0 }],
    [
      `platform: "ensemble" ensemble_scheduling { step [
         { model_name: "a" model_version: -1 input_map { key: "x" value: "raw" } output_map { key: "y" value: "mid" } },
         { model_name: "b" model_version: 3 input_map { key: "x" value: "mid" } output_map { key: "y" value: "out" } } ] }`,
      {
        backend: 'ensemble',
        ensemble: [
          { model: 'a', inputs: new Map([['x', 'raw']]), outputs: new Map([['y', 'mid']]) },
          { model: 'b', version: '3', inputs: new Map([['x', 'mid']]), outputs: new Map([['y', 'out']]) },
        ],
      },
    ],
  ])('%s', (text, expected) => {
    expect(read(text).config).toMatchObject(expected)
  })

  it('warns of what has no effect here, once a field and only where it says something', () => {
    const { warnings } = read(`instance_group { gpus: [0, 1] host_policy: "" }
response_cache { enable: true } model_transaction_policy { decoupled: false }
optimization { graph { level: 1 } cuda { graphs: false } }
dynamic_batching { preserve_ordering: true priority_levels: 0 }`)
    expect(warnings).toEqual([
      'line 1, column 18: instance_group[0].gpus = 1 has no effect: which device it is, ONNX Runtime decides',
      'line 3, column 16: optimization.graph = { … } has no effect: ONNX Runtime optimizes every graph',
      'line 4, column 20: dynamic_batching.preserve_ordering = true has no effect: each request is answered when it is done',
      'line 2, column 1: response_cache = { … } has no effect: answers are not cached',
    ])
  })
})

describe('config.pbtxt is refused, with line, field and what is known', () => {
  it.each([
    [
      'max_batch_sise: 3',
      'max_batch_sise',
      /^line 1, column 1: max_batch_sise: there is no such field: expected one of backend, .*max_batch_size/,
    ],
    [
      '\ninput { name: "x" data_type: TYPE_FP32 dims: 1 dim: 3 }',
      'input[0].dim',
      /^line 2, column 48: .*expected one of allow_ragged_batch, data_type, dims/,
    ],
    ['name: "other"', 'name', /is "other", and the model's folder is "m"/],
    ['name: "m" name: "m"', 'name', /^line 1, column 11: name: is given more than once/],
    ['backend: "python"', 'backend', /there is no backend "python": expected "onnxruntime", "remote", "module", "ensemble"/],
    ['platform: "tensorrt_plan"', 'platform', /there is no platform "tensorrt_plan"/],
    ['platform: "ensemble" backend: "onnxruntime"', 'platform', /is "ensemble", and backend is "onnxruntime"/],
    ['platform: "ensemble"', 'platform', /go together/],
    ['max_batch_size: -1', 'max_batch_size', /a whole number from 0 to 2147483647, found -1/],
    ['max_batch_size: "8"', 'max_batch_size', /a whole number, found "8"/],
    ['max_batch_size: 1.5', 'max_batch_size', /a whole number, found 1\.5/],
    ['max_batch_size: {}', 'max_batch_size', /found \{ … \}/],
    ['input { data_type: TYPE_FP32 dims: 1 }', 'input[0].name', /is missing/],
    ['input { name: "x" dims: 1 }', 'input[0].data_type', /is missing: expected one of TYPE_FP32/],
    ['input { name: "x" data_type: FP32 dims: 1 }', 'input[0].data_type', /expected one of TYPE_INVALID, TYPE_BOOL.*found FP32/],
    ['input { name: "x" data_type: "TYPE_FP32" dims: 1 }', 'input[0].data_type', /found "TYPE_FP32"/],
    ['input { name: "x" data_type: TYPE_FP32 }', 'input[0].dims', /is missing/],
    ['input { name: "x" data_type: TYPE_FP32 dims: [0] }', 'input[0].dims', /of size 0/],
    ['input { name: "x" data_type: TYPE_FP32 dims: [-2] }', 'input[0].dims[0]', /from -1 to/],
    ['input { name: "x" data_type: TYPE_FP32 dims: 1 reshape { shape: [] } }', 'input[0].reshape', /is not supported/],
    [
      'input { name: "x" data_type: TYPE_FP32 dims: 1 reshape { shape: [2] } }',
      'input[0].reshape',
      /is not supported: tensors have the shape that the file says/,
    ],
    ['input { name: "x" data_type: TYPE_FP32 dims: 1 optional: true }', 'input[0].optional', /every input is needed/],
    ['output [{ name: "x" data_type: TYPE_FP32 dims: 1 }, { name: "x" data_type: TYPE_FP32 dims: 1 }]', 'output', /two of name "x"/],
    [
      'output { name: "x" data_type: TYPE_FP32 dims: 1 label_filename: "../../etc/passwd" }',
      'output[0].label_filename',
      /no file in the model's folder/,
    ],
    ['version_policy { all {} latest {} }', 'version_policy.all', /there is latest already: only one/],
    ['version_policy { specific { } }', 'version_policy.specific.versions', /names no version/],
    ['version_policy { specific { versions: 0 } }', 'version_policy.specific.versions[0]', /from 1 to 9223372036854775807, found 0/],
    ['instance_group [{ kind: KIND_CPU }, { kind: KIND_GPU }]', 'instance_group[1].kind', /all instances are of one kind/],
    ['max_batch_size: 0 dynamic_batching {}', 'dynamic_batching', /rows are not batched/],
    [
      'max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }',
      'dynamic_batching.preferred_batch_size',
      /8 is more than max_batch_size, which is 4/,
    ],
    [
      'sequence_batching { max_sequence_idle_microseconds: 5 }',
      'sequence_batching',
      /is not supported: requests of a sequence share no state/,
    ],
    ['sequence_batching {}', 'sequence_batching', /is not supported: requests of a sequence share no state/],
    ['dynamic_batching {} sequence_batching {}', 'sequence_batching', /there is dynamic_batching already/],
    ['model_transaction_policy { decoupled: true }', 'model_transaction_policy.decoupled', /exactly one answer/],
    ['default_model_filename: "../x.onnx"', 'default_model_filename', /no name of a file/],
    ['parameters { key: "a" }', 'parameters', /expected an entry/],
    ['parameters { key: "intra_op_thread_count" value { string_value: "many" } }', 'parameters', /expected a count of threads/],
    [
      'model_warmup { inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 } } }',
      'model_warmup[0].inputs["x"].zero_data',
      /expected zero_data, random_data/,
    ],
    ['ensemble_scheduling { }', 'ensemble_scheduling.step', /at least one step/],
    ['ensemble_scheduling { step { output_map { key: "a" value: "b" } } }', 'ensemble_scheduling.step[0].model_name', /is missing/],
    [
      'optimization { execution_accelerators { gpu_execution_accelerator { } } }',
      'optimization.execution_accelerators.gpu_execution_accelerator[0].name',
      /name of an execution provider/,
    ],
    ['name: 5', 'name', /expected a string in quotes, found 5/],
    ['constructor: 5', 'constructor', /no such field/],
  ])('%s', (text, field, message) => {
    const error = refusal(() => read(text))
    expect(error.message).toMatch(message)
    expect(error.field).toBe(field)
  })
})

describe('a configuration as JSON', () => {
  it('is read by either spelling, numbers as strings too, maps as objects', () => {
    const json = {
      name: 'm',
      maxBatchSize: '8',
      input: [{ name: 'x', data_type: 'TYPE_INT64', dims: ['-1', 3] }],
      output: [{ name: 'y', dataType: 11, dims: [1] }],
      version_policy: { specific: { versions: ['9007199254740993'] } },
      instance_group: null,
      parameters: { a: { string_value: 'b' } },
      dynamic_batching: { preferred_batch_size: [4], default_queue_policy: { allow_timeout_override: true, timeout_action: 'DELAY' } },
      model_warmup: [{ inputs: { x: { data_type: 'TYPE_INT64', dims: [1, 3], zero_data: true } } }],
    }
    expect(parseModelConfigJson(JSON.stringify(json), 'm').config).toMatchObject({
      maxBatchSize: 8,
      inputs: [{ name: 'x', datatype: 'INT64', dims: [-1, 3] }],
      outputs: [{ name: 'y', datatype: 'FP32', dims: [1] }],
      versionPolicy: { kind: 'specific', versions: ['9007199254740993'] },
      parameters: new Map([['a', 'b']]),
      batching: { preferredBatchSizes: [4], allowTimeoutOverride: true, timeoutAction: 'delay' },
      warmup: [{ inputs: new Map([['x', { datatype: 'INT64', dims: [1, 3], data: 'zero' }]]) }],
    })
    // A number beyond 2^53 stays what it is.
    expect(parseModelConfigJson('{"version_policy":{"specific":{"versions":[9007199254740993]}}}', 'm').config.versionPolicy).toEqual({
      kind: 'specific',
      versions: ['9007199254740993'],
    })
  })

  it.each([
    ['[]', undefined, /must be a JSON object/],
    ['{"a"', undefined, /not valid JSON/],
    ['{"nme": "m"}', 'nme', /^nme: there is no such field/],
    ['{"input": [[1]]}', 'input', /an array in an array/],
    ['{"input": 5}', 'input[0]', /expected a message in braces, found 5/],
    ['{"parameters": {"a": "b"}}', 'parameters["a"]', /expected a message/],
    ['{"max_batch_size": 1e3}', 'max_batch_size', /a whole number, found 1e3/],
  ])('%s is refused', (json, field, message) => {
    const error = refusal(() => parseModelConfigJson(json, 'm'))
    expect(error.message).toMatch(message)
    expect(error.field).toBe(field)
  })

  it('lies too deep, and is refused', () => {
    expect(refusal(() => parseModelConfigJson(`${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`, 'm')).message).toMatch(
      /nested more than 64 deep/,
    )
    expect(refusal(() => parseModelConfigJson('['.repeat(1_000_000), 'm')).message).toMatch(/not valid JSON/)
  })
})
