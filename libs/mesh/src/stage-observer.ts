import type { StageObserver } from '@spillway/core'
import { batchSpan, type MeshMetrics, type Telemetry } from '@spillway/telemetry'

/** A span, a count and a duration for every batch that a stage has processed. */
export function stageObserver(telemetry: Telemetry, metrics: MeshMetrics): StageObserver {
  return {
    async observe(stage, batch, work) {
      const startedMs = performance.now()
      const attributes = { 'spillway.stage': stage, 'spillway.rows': batch.rowCount }
      const result = await batchSpan(telemetry, stage, attributes, batch.meta.traceParents, work)
      metrics.stageRows(stage, batch.rowCount, (performance.now() - startedMs) / 1000)
      return result
    },
    threw: (stage, error) => telemetry.logger.error({ err: error, stage }, 'a stage threw'),
  }
}
