import { MeshError } from '@spillway/core'
import { validateLookups } from '@spillway/features'
import { compileGraph, loadPipeline, type Pipeline } from '@spillway/mesh'
import type { Command } from 'commander'

export function addValidateCommand(program: Command): void {
  program
    .command('validate')
    .description('check a pipeline file and show what it makes')
    .argument('<file>', 'the pipeline file')
    .action(async (file: string) => {
      const pipeline = await loadPipeline(file)
      const graph = compileGraph(pipeline)
      await checkTables(file, pipeline)
      console.log(`${file}: pipeline "${pipeline.name}" is valid`)
      console.log(`  features  ${pipeline.features.vector.names.join(', ')}`)
      console.log(`  tiers     ${pipeline.cascade.tiers.map((tier) => tier.model).join(' → ')}`)
      for (const segment of graph.segments)
        console.log(`  segment   ${segment.name} reads ${segment.sources.map((source) => source.topic).join(', ')}`)
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
