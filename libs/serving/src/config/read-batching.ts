import type { MessageReader } from './message-reader.ts'
import type { BatchingConfig } from './model-config.ts'

const actions = ['REJECT', 'DELAY'] as const

/** `dynamic_batching`. @param maxBatchSize the model's; undefined where its file decides */
export function readBatching(reader: MessageReader, maxBatchSize: number | undefined): BatchingConfig | undefined {
  const batching = reader.message('dynamic_batching')
  if (batching === undefined) return undefined
  if (maxBatchSize === 0) throw reader.error('dynamic_batching', 'max_batch_size is 0, by which rows are not batched')
  const preferredBatchSizes = batching.ints('preferred_batch_size', { least: 1, most: 2 ** 31 - 1 })
  const tooLarge = preferredBatchSizes.find((size) => maxBatchSize !== undefined && size > maxBatchSize)
  if (tooLarge !== undefined)
    throw batching.error('preferred_batch_size', `${tooLarge} is more than max_batch_size, which is ${maxBatchSize}`)
  const maxQueueDelayMs = milliseconds(batching, 'max_queue_delay_microseconds')
  batching.unused('each request is answered when it is done', 'preserve_ordering')
  batching.unused('requests have no priorities', 'priority_levels', 'default_priority_level', 'priority_queue_policy')
  const policy = batching.message('default_queue_policy')
  const queue = {
    maxQueueRows: policy?.int('max_queue_size', { least: 0, most: 2 ** 32 - 1 }) ?? 0,
    defaultTimeoutMs: policy === undefined ? 0 : milliseconds(policy, 'default_timeout_microseconds'),
    timeoutAction: policy?.choice('timeout_action', actions) === 'DELAY' ? ('delay' as const) : ('reject' as const),
    allowTimeoutOverride: policy?.flag('allow_timeout_override') ?? false,
  }
  policy?.end()
  batching.end()
  return { preferredBatchSizes: [...new Set(preferredBatchSizes)].toSorted((a, b) => a - b), maxQueueDelayMs, ...queue }
}

function milliseconds(reader: MessageReader, name: string): number {
  return (reader.int(name, { least: 0 }) ?? 0) / 1000
}
