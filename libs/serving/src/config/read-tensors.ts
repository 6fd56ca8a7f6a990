import type { Datatype } from '@spillway/core'
import type { MessageReader } from './message-reader.ts'
import type { TensorConfig } from './model-config.ts'

/** By number in the contract's `DataType`. */
const dataTypes = [
  'TYPE_INVALID',
  'TYPE_BOOL',
  'TYPE_UINT8',
  'TYPE_UINT16',
  'TYPE_UINT32',
  'TYPE_UINT64',
  'TYPE_INT8',
  'TYPE_INT16',
  'TYPE_INT32',
  'TYPE_INT64',
  'TYPE_FP16',
  'TYPE_FP32',
  'TYPE_FP64',
  'TYPE_STRING',
  'TYPE_BF16',
] as const

const formats = ['FORMAT_NONE', 'FORMAT_NHWC', 'FORMAT_NCHW'] as const

/** `data_type` and `dims` of a tensor; what is missing of them, the reader's `end` says. */
export function readType(reader: MessageReader, mayBeEmpty: boolean): { datatype: Datatype; dims: readonly number[] } {
  const type = reader.choice('data_type', dataTypes) ?? 'TYPE_INVALID'
  reader.mustHave(type !== 'TYPE_INVALID', 'data_type', 'is missing: expected one of TYPE_FP32, TYPE_INT64, TYPE_STRING, …')
  const dims = reader.ints('dims', { least: -1, most: 2 ** 31 - 1 })
  reader.mustHave(dims.length > 0 || mayBeEmpty, 'dims', 'is missing: expected the size of each dimension, -1 for any')
  if (dims.includes(0)) throw reader.error('dims', 'has a dimension of size 0: expected at least 1, or -1 for any')
  return { datatype: type === 'TYPE_STRING' ? 'BYTES' : (type.slice('TYPE_'.length) as Datatype), dims }
}

export function readInputs(reader: MessageReader): readonly TensorConfig[] {
  return unique(
    reader,
    'input',
    reader.messages('input').map((input) => {
      const tensor = readTensor(input)
      input.choice('format', formats)
      input.refused('every input is needed', 'optional')
      input.unused('requests whose shapes differ are run apart', 'allow_ragged_batch')
      input.end()
      return tensor
    }),
  )
}

export function readOutputs(reader: MessageReader): readonly TensorConfig[] {
  return unique(
    reader,
    'output',
    reader.messages('output').map((output) => {
      const tensor = readTensor(output)
      const labelFile = output.text('label_filename') || undefined
      if (labelFile !== undefined && !liesBelow(labelFile))
        throw output.error('label_filename', `"${labelFile}" is no file in the model's folder`)
      output.end()
      return labelFile === undefined ? tensor : { ...tensor, labelFile }
    }),
  )
}

/** Whether a path lies below the folder that it is relative to. */
export function liesBelow(path: string): boolean {
  return !path.startsWith('/') && !/[\\\0]/.test(path) && !path.split('/').includes('..')
}

function readTensor(reader: MessageReader): TensorConfig {
  const name = reader.text('name') ?? ''
  reader.mustHave(name !== '', 'name', 'is missing: expected the name of a tensor of the model')
  const type = readType(reader, false)
  // An empty one says something too: a row is a single value.
  if (reader.message('reshape') !== undefined) throw reader.error('reshape', 'is not supported: tensors have the shape that the file says')
  reader.refused('only TensorRT has such tensors', 'is_shape_tensor', 'is_non_linear_format_io')
  return { name, ...type }
}

function unique(reader: MessageReader, field: string, tensors: readonly TensorConfig[]): readonly TensorConfig[] {
  const names = new Set<string>()
  for (const { name } of tensors) {
    if (names.has(name)) throw reader.error(field, `there are two of name "${name}"`)
    names.add(name)
  }
  return tensors
}
