import type { Command } from 'commander'
import { addDiffCommand } from './features-diff.ts'
import { addExportCommand } from './features-export.ts'
import { addFitCommand } from './features-fit.ts'
import { addLogCommand } from './features-log.ts'

/** What is done with features outside of the mesh: exports for training, the log of what was served, and how the two compare. */
export function addFeaturesCommands(program: Command): void {
  const features = program.command('features').description('feature vectors for training, as served, and compared')
  addFitCommand(features)
  addExportCommand(features)
  addLogCommand(features)
  addDiffCommand(features)
}
