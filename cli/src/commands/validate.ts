import { compileGraph, loadPipeline } from '@spillway/mesh'
import type { Command } from 'commander'

export function addValidateCommand(program: Command): void {
  program
    .command('validate')
    .description('check a pipeline file and show what it makes')
    .argument('<file>', 'the pipeline file')
    .action(async (file: string) => {
      const pipeline = await loadPipeline(file)
      const graph = compileGraph(pipeline)
      console.log(`${file}: pipeline "${pipeline.name}" is valid`)
      console.log(`  features  ${pipeline.features.vector.names.join(', ')}`)
      console.log(`  tiers     ${pipeline.cascade.tiers.map((tier) => tier.model).join(' → ')}`)
      for (const segment of graph.segments)
        console.log(`  segment   ${segment.name} reads ${segment.sources.map((source) => source.topic).join(', ')}`)
    })
}
