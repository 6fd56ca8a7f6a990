import { MeshError } from '@spillway/core'
import { CommanderError } from 'commander'
import { withDashes } from './models/model-flags.ts'
import { endWithReader } from './output-gone.ts'
import { makeProgram } from './program.ts'

/** What its user can mend: a wrong file, option or address. */
const userErrors: ReadonlySet<string> = new Set(['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'NOT_FOUND', 'PERMISSION_DENIED'])

endWithReader(process.stdout)
try {
  const args = process.argv.slice(2)
  const program = await makeProgram(args)
  await program.parseAsync(args[0] === 'serve' ? withDashes(args) : args, { from: 'user' })
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
