import { existsSync } from 'node:fs'
import { tierModels } from '@spillway/cascade-router'
import { MeshError } from '@spillway/core'
import { validateLookups } from '@spillway/features'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import { ModelManager } from '@spillway/serving'
import type { Command } from 'commander'
import { batchTelemetry } from '../batch/batch-telemetry.ts'
import { pipelineReport } from '../pipeline-report.ts'

export function defineValidate(command: Command): void {
  command.argument('<file>', 'the pipeline file').action(async (file: string) => {
    const pipeline = await loadPipeline(file)
    await checkTables(file, pipeline)
    const models = await checkModels(file, pipeline)
    console.log([`${file}: pipeline "${pipeline.name}" is valid`, ...pipelineReport(pipeline), models].join('\n'))
  })
}

/** The tables that features look up. @throws MeshError INVALID_ARGUMENT naming the pipeline file, the path in it, and the table's file and line */
async function checkTables(file: string, { features, folder }: Pipeline): Promise<void> {
  try {
    await validateLookups(features, folder, new AbortController().signal)
  } catch (thrown) {
    const { code, message, field } = MeshError.from(thrown)
    throw new MeshError(code, `${file}: features.${field}: ${message}`, { cause: thrown })
  }
}

/**
 * The models of the pipeline's repository, held against the features that they are given.
 * @returns what is to be said of them
 * @throws MeshError naming the pipeline file and the tier's path in it
 */
async function checkModels(file: string, pipeline: Pipeline): Promise<string> {
  const { cascade, modelsPath } = pipeline
  const own = tierModels(pipeline)
  const others = cascade.tiers.filter(({ address }) => address !== undefined).map(({ model }) => model)
  const notAsked = others.length === 0 ? '' : `; not asked: ${others.join(', ')}, on servers of their own`
  if (own.models.length > 0 && !existsSync(modelsPath)) return `  models    NOT CHECKED: there is no ${modelsPath}${notAsked}`
  const telemetry = batchTelemetry('silent')
  const manager = new ModelManager({ ...own, telemetry })
  try {
    await manager.start(new AbortController().signal)
    return `  models    ${own.models.join(', ')} take these features${notAsked}`
  } catch (thrown) {
    const { code, message, field } = MeshError.from(thrown)
    throw new MeshError(code, [file, ...(field === undefined ? [] : [field]), message].join(': '), { cause: thrown })
  } finally {
    await manager.drain()
    await telemetry.shutdown()
  }
}
