import { MeshError } from '@spillway/core'
import { validateLookups } from '@spillway/features'
import { loadPipeline, type Pipeline } from '@spillway/mesh'
import type { Command } from 'commander'
import { pipelineReport } from '../pipeline-report.ts'

export function addValidateCommand(program: Command): void {
  program
    .command('validate')
    .description('check a pipeline file and show what it makes')
    .argument('<file>', 'the pipeline file')
    .action(async (file: string) => {
      const pipeline = await loadPipeline(file)
      await checkTables(file, pipeline)
      console.log([`${file}: pipeline "${pipeline.name}" is valid`, ...pipelineReport(pipeline)].join('\n'))
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
