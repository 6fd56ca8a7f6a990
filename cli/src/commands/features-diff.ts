import { MeshError } from '@spillway/core'
import type { Command } from 'commander'
import { compare } from '../skew/compare.ts'
import { flagAbove, reportText } from '../skew/report.ts'
import { openTable } from '../tables/read-table.ts'
import { commaSeparated } from './batch-flags.ts'
import { parseCount } from '../options.ts'

interface DiffFlags {
  readonly tolerance: number
  readonly features?: readonly string[]
  readonly json: boolean
  readonly limit: number
  readonly failOnDrift?: number
}

const about = `
LOG and EXPORT are tables of vectors (Parquet, CSV or NDJSON), or folders of their parts, as "features log" and "features export" write them. Rows belong together by
id; where an id comes more than once, by topic, partition and offset too. The export is held in memory (4 bytes a number, about 60 a row), the log is read once.

Exit code 1 where a feature of a row differs, or a drift is above --fail-on-drift; 0 where all is well; 2 where there is nothing to compare.`

export function addDiffCommand(features: Command): void {
  features
    .command('diff')
    .description('find skew between what was served and what is trained on, row by row, and drift, feature by feature')
    .argument('<log>', 'what was served')
    .argument('<export>', 'what is trained on')
    .option('--tolerance <number>', 'least difference that counts, relative where the training value is above 1', parseNumber, 1e-6)
    .option('--features <names>', 'compare these columns alone (default: what the tables say their features are)', commaSeparated)
    .option('--limit <count>', 'examples that are shown', parseCount, 20)
    .option('--json', 'give the whole comparison as JSON', false)
    .option('--fail-on-drift <index>', 'exit with 1 where a feature’s population stability index is above this', parseNumber)
    .addHelpText('after', about)
    .action(runDiff)
}

async function runDiff(logPath: string, exportPath: string, flags: DiffFlags): Promise<void> {
  const { tolerance, limit, features, failOnDrift } = flags
  const [log, training] = [await openTable(logPath), await openTable(exportPath)]
  const comparison = await compare({ log, training, tolerance, limit, ...(features && { features }) })
  console.log(flags.json ? JSON.stringify({ ...comparison, driftFlagAbove: flagAbove }, null, 2) : reportText(comparison))
  if (comparison.rowsCompared === 0)
    throw new MeshError('INVALID_ARGUMENT', `no row of ${logPath} is in ${exportPath}: are they of the same events?`)
  const drifted = comparison.drift.some(({ stability }) => stability > (failOnDrift ?? Infinity))
  if (comparison.rowsThatDiffer > 0 || drifted) process.exitCode = 1
}

function parseNumber(text: string): number {
  const number = Number(text)
  if (text.trim() === '' || !(number >= 0)) throw new MeshError('INVALID_ARGUMENT', `"${text}" is no number of at least 0`)
  return number
}
