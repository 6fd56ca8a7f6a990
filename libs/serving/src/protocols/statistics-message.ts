import type { inference } from '@spillway/wire'
import type { DurationStatistic, ModelStatistics, Models } from '../models.ts'
import { versionNumber } from './request-parameters.ts'

/** Nothing is cached: every model runs for every request. */
const never = { count: 0n, ns: 0n }

/** @param model '' for all @param version '' for all @throws MeshError NOT_FOUND */
export function statisticsOf(models: Models, model: string, version: string): inference.ModelStatistics[] {
  const asked = version === '' ? undefined : versionNumber(version)
  return models.statistics(model === '' ? undefined : model, asked).map(statisticsMessage)
}

function statisticsMessage(statistics: ModelStatistics): inference.ModelStatistics {
  const { success, fail, queue, computeInput, computeInfer, computeOutput } = statistics
  return {
    name: statistics.model,
    version: statistics.version,
    lastInference: BigInt(Math.round(statistics.lastInferenceMs)),
    inferenceCount: statistics.inferenceCount,
    executionCount: statistics.executionCount,
    inferenceStats: { success, fail, queue, computeInput, computeInfer, computeOutput, cacheHit: never, cacheMiss: never },
    batchStats: statistics.batches.map((batch) => ({
      batchSize: BigInt(batch.batchSize),
      computeInput: batch.computeInput,
      computeInfer: batch.computeInfer,
      computeOutput: batch.computeOutput,
    })),
  }
}

/** As REST gives it ("Statistics Response JSON Object"); a count beyond 2^53 would be rounded. */
export function statisticsJson(statistics: readonly inference.ModelStatistics[]): object {
  return { model_stats: statistics.map(modelJson) }
}

function modelJson({ inferenceStats, batchStats, ...model }: inference.ModelStatistics): object {
  const stats = inferenceStats!
  return {
    name: model.name,
    version: model.version,
    last_inference: Number(model.lastInference),
    inference_count: Number(model.inferenceCount),
    execution_count: Number(model.executionCount),
    inference_stats: {
      success: duration(stats.success),
      fail: duration(stats.fail),
      queue: duration(stats.queue),
      compute_input: duration(stats.computeInput),
      compute_infer: duration(stats.computeInfer),
      compute_output: duration(stats.computeOutput),
      cache_hit: duration(stats.cacheHit),
      cache_miss: duration(stats.cacheMiss),
    },
    batch_stats: batchStats.map((batch) => ({
      batch_size: Number(batch.batchSize),
      compute_input: duration(batch.computeInput),
      compute_infer: duration(batch.computeInfer),
      compute_output: duration(batch.computeOutput),
    })),
  }
}

function duration(statistic: DurationStatistic | undefined): { readonly count: number; readonly ns: number } {
  return { count: Number(statistic?.count ?? 0n), ns: Number(statistic?.ns ?? 0n) }
}
