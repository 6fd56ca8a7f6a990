import { MeshError } from '@spillway/core'
import type { PipelineDefinition, Placement } from './pipeline-schema.ts'

/**
 * Over a topic an escalated row is answered by another segment, in its own time: behind rows of its key that came after it.
 * @throws MeshError INVALID_ARGUMENT whose field is the path in the file
 */
export function checkOrdering({ ordering, cascade }: Pick<PipelineDefinition, 'ordering' | 'cascade'>, placement: Placement): void {
  if (ordering === 'per-tier' || placement.escalations === 'local' || cascade.tiers.length === 1) return
  throw new MeshError(
    'INVALID_ARGUMENT',
    '"per-key" cannot be kept with "placement.escalations: topic", where accepted rows pass those that wait for a higher tier: make it "escalations: local", or the ordering "per-tier"',
    { field: 'ordering' },
  )
}
