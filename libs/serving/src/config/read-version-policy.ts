import type { MessageReader } from './message-reader.ts'
import type { VersionPolicy } from './model-config.ts'

/** Triton's ModelVersionPolicy, and TensorFlow Serving's ServableVersionPolicy, which has the same fields. Undefined where nothing is said. */
export function readVersionPolicy(reader: MessageReader, field: string): VersionPolicy | undefined {
  const policy = reader.message(field)
  if (policy === undefined) return undefined
  const kind = policy.oneOf(['latest', 'all', 'specific'])
  const latest = policy.message('latest')
  const count = latest?.int('num_versions', { least: 0, most: 2 ** 32 - 1 }) || 1
  latest?.end()
  policy.message('all')?.end()
  const specific = policy.message('specific')
  const versions = specific?.versions('versions') ?? []
  specific?.end()
  policy.end()
  if (kind === undefined) return undefined
  if (kind === 'specific' && versions.length === 0) throw specific!.error('versions', 'names no version')
  return kind === 'all' ? { kind } : kind === 'latest' ? { kind, count } : { kind, versions }
}
