import type { Command } from 'commander'
import { addDiffCommand } from './features-diff.ts'
import { addExportCommand } from './features-export.ts'
import { addFitCommand } from './features-fit.ts'
import { addLogCommand } from './features-log.ts'

/** What is done with features outside of the mesh: exports for training, the log of what was served, and how the two compare. */
export function defineFeatures(features: Command): void {
  addFitCommand(features)
  addExportCommand(features)
  addLogCommand(features)
  addDiffCommand(features)
}
