import { MeshError } from '@spillway/core'
import { Command, CommanderError } from 'commander'
import { addBackfillCommand } from './commands/backfill.ts'
import { addClientCommands } from './commands/client.ts'
import { addDemoCommand } from './commands/demo.ts'
import { addDlqCommands } from './commands/dlq.ts'
import { addFeaturesCommands } from './commands/features.ts'
import { addModelsCommands } from './commands/models.ts'
import { addRunCommands } from './commands/run.ts'
import { addValidateCommand } from './commands/validate.ts'
import { withDashes } from './models/model-flags.ts'

const program = new Command('spillway')
  .description('A streaming inference mesh: events in on topics, predictions and alerts out.')
  .version('0.1.0')
  .showHelpAfterError('(add --help for what there is)')
  .exitOverride()

addDemoCommand(program)
addRunCommands(program)
addValidateCommand(program)
addClientCommands(program)
addFeaturesCommands(program)
addBackfillCommand(program)
addDlqCommands(program)
addModelsCommands(program)

/** What its user can mend: a wrong file, option or address. */
const userErrors: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'NOT_FOUND', 'PERMISSION_DENIED'])

try {
  await program.parseAsync(process.argv[2] === 'serve' ? withDashes(process.argv) : process.argv)
} catch (thrown) {
  if (thrown instanceof CommanderError) process.exitCode = thrown.exitCode === 0 ? 0 : 2
  else {
    const error = MeshError.from(thrown)
    const mendable = userErrors.has(error.code) || error.field !== undefined
    process.exitCode = error.code === 'CANCELLED' ? 0 : mendable ? 2 : 1
    if (error.code !== 'CANCELLED') console.error(`spillway: ${error.message}`)
    if (!(thrown instanceof MeshError) && process.exitCode === 1) console.error(thrown)
  }
}
