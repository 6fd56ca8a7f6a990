import { MeshError } from '@spillway/core'

/**
 * How many partitions each of the topics has that are read together.
 * @param counts of `topics`, in their order
 * @throws MeshError FAILED_PRECONDITION where they differ
 */
export function equalPartitions(topics: readonly string[], counts: readonly number[]): number {
  const different = counts.findIndex((count) => count !== counts[0])
  if (different > 0)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `topics read together need equal counts of partitions: "${topics[0]}" has ${counts[0]}, "${topics[different]}" has ${counts[different]}`,
      { field: 'topics' },
    )
  return counts[0]!
}
