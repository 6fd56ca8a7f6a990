import type { MessageReader } from './message-reader.ts'
import type { WarmupInput, WarmupRequest } from './model-config.ts'
import { liesBelow, readType } from './read-tensors.ts'

/** Larger requests than any load is held up for. */
const mostRows = 65_536
const mostTimes = 10_000

/** `model_warmup`. */
export function readWarmup(reader: MessageReader): readonly WarmupRequest[] {
  return reader.messages('model_warmup').map((warmup, index) => {
    const request = {
      name: warmup.text('name') || String(index),
      rowCount: warmup.int('batch_size', { least: 0, most: mostRows }) ?? 0,
      count: warmup.int('count', { least: 0, most: mostTimes }) || 1,
      inputs: warmup.map('inputs', readInput),
    }
    warmup.end()
    return request
  })
}

function readInput(reader: MessageReader): WarmupInput {
  const type = readType(reader, true)
  const kind = reader.oneOf(['zero_data', 'random_data', 'input_data_file'])
  reader.flag('zero_data')
  reader.flag('random_data')
  const file = reader.text('input_data_file') ?? ''
  reader.end()
  if (kind === undefined) throw reader.error('zero_data', 'is missing: expected zero_data, random_data or input_data_file')
  if (kind === 'zero_data') return { ...type, data: 'zero' }
  if (kind === 'random_data') return { ...type, data: 'random' }
  if (file === '' || !liesBelow(file)) throw reader.error('input_data_file', `"${file}" is no file in the model's folder warmup`)
  return { ...type, data: { file } }
}
