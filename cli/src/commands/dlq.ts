import { MeshError } from '@spillway/core'
import type { DeadLetterDesk, DeadLetterFilter, Settlement } from '@spillway/mesh'
import { type Command, Option } from 'commander'
import { parseTime } from '../batch/parse-time.ts'
import { numberText } from '../batch/progress.ts'
import { untilStopped } from '../batch/stop.ts'
import { detailLines, kindOf, letterLines } from '../dlq/letter-text.ts'
import { type DeskFlags, withDesk } from '../dlq/open-desk.ts'
import { lettersBy, settleLetters } from '../dlq/settle-letters.ts'
import { parseCount } from '../options.ts'

interface FilterFlags extends DeskFlags {
  readonly segment?: string
  readonly stage?: string
  readonly code?: string
  readonly key?: string
  readonly id?: string
  readonly from?: number
  readonly to?: number
  readonly limit?: number
  readonly json: boolean
}

interface ListFlags extends FilterFlags {
  readonly outcome: NonNullable<DeadLetterFilter['outcome']>
}

interface SettleFlags extends FilterFlags {
  readonly all: boolean
  readonly dryRun: boolean
  readonly rate?: number
  readonly at?: 'segment' | 'input'
}

const defaultListed = 100

const about = `
Dead letters are reached at the bus (--bus), or through the pipeline's running gateway (--gateway): an embedded bus belongs to the process that runs
the mesh. The log keeps a letter for as long as its topic's retention; what became of it stands on the topic <pipeline>.redrive.`

const aboutRedrive = `
A letter goes on in the segment that failed it, into the stage that failed it, with the row that this stage was given; where the features or fields have
changed since, its event is read again. It keeps its place in history, and its answer says how often it was given back (header spillway-redriven).
With --at input its event takes the whole way again, from the pipeline's input. Stopped or killed, the same command goes on: no letter is lost, none given back twice.`

export function defineDlq(dlq: Command): void {
  dlq.addHelpText('after', about)
  deskOptions(
    filterOptions(dlq.command('list').description('print dead letters, by partition and in the order in which they were written')),
  )
    .option('--limit <number>', `at most so many; ${defaultListed} where absent`, parseCount)
    .addOption(new Option('--outcome <outcome>', 'what became of them').choices(['open', 'redriven', 'dropped', 'any']).default('open'))
    .action((flags: ListFlags) => untilStopped((signal) => withDesk(flags, signal, (desk) => list(desk, flags, signal)), 'stopped'))
  deskOptions(dlq.command('show').description('print a letter: its event, its headers, the row that the failing stage was given'))
    .argument('<letter>', '<partition>-<offset>, as list prints it')
    .action((position: string, flags: FilterFlags) =>
      untilStopped((signal) => withDesk(flags, signal, (desk) => show(desk, position, flags, signal)), 'stopped'),
    )
  settleCommand(dlq.command('redrive').description('give letters back to the segment that failed them'), 'redriven')
    .addOption(new Option('--at <place>', 'where they go on').choices(['segment', 'input']).default('segment'))
    .addHelpText('after', aboutRedrive)
  settleCommand(dlq.command('drop').description('say that letters are done with; they stay on their topic'), 'dropped')
}

function deskOptions(command: Command): Command {
  return command
    .requiredOption('--pipeline <file>', 'the pipeline file; through a gateway its name will do')
    .option('--bus <address>', 'kafka://host:port[,…], nats://host:port[,…], or embedded:FILE of a mesh that is stopped')
    .option('--gateway <url>', 'where the gateway listens; http://127.0.0.1:8080 where there is no --bus')
    .option('--json', 'print JSON, a letter a line', false)
}

function filterOptions(command: Command): Command {
  return command
    .option('--segment <name>', 'failed in this segment')
    .option('--stage <name>', 'failed at this stage')
    .option('--code <code>', 'failed with this code, as INVALID_ARGUMENT')
    .option('--key <key>', 'events with this record key')
    .option('--id <id>', 'the event with this id')
    .option('--from <time>', 'written at or after: a day as 2018-05-08, or RFC 3339', parseTime)
    .option('--to <time>', 'written before', parseTime)
}

function settleCommand(command: Command, outcome: Settlement['outcome']): Command {
  return deskOptions(filterOptions(command))
    .argument('[letters...]', '<partition>-<offset>, as list prints them; those that a filter finds where absent')
    .option('--all', 'all that are open, without a filter', false)
    .option('--limit <number>', 'at most so many', parseCount)
    .option('--rate <number>', 'letters a second, at most', parseCount)
    .option('--dry-run', 'only say what would be done', false)
    .action((positions: readonly string[], flags: SettleFlags) =>
      untilStopped(
        (signal) => withDesk(flags, signal, (desk) => settle(desk, { outcome, positions, flags }, signal)),
        'stopped; the same command goes on with the letters that are still open',
      ),
    )
}

function filterOf({ segment, stage, code, key, id, from, to }: FilterFlags): DeadLetterFilter {
  const texts = Object.entries({ segment, stage, code, key, id }).filter(([, value]) => value !== undefined)
  return {
    ...(Object.fromEntries(texts) as DeadLetterFilter),
    ...(from !== undefined && { fromMs: from }),
    ...(to !== undefined && { toMs: to }),
  }
}

async function list(desk: DeadLetterDesk, flags: ListFlags, signal: AbortSignal): Promise<void> {
  const { limit = defaultListed } = flags
  const letters = lettersBy(desk, { ...filterOf(flags), outcome: flags.outcome }, limit, signal)
  let count = 0
  for (;;) {
    const { value, done } = await letters.next()
    if (done === true) {
      const none = flags.outcome === 'any' ? 'no dead letters' : `no ${flags.outcome} dead letters`
      if (value.more) console.error(`the first ${limit}: there may be more, ask with --limit`)
      else if (count === 0) console.error(none)
      return
    }
    count++
    console.log(flags.json ? JSON.stringify(value) : letterLines(value))
  }
}

async function show(desk: DeadLetterDesk, position: string, flags: FilterFlags, signal: AbortSignal): Promise<void> {
  const letter = await desk.show(position, signal)
  console.log(flags.json ? JSON.stringify(letter) : detailLines(letter))
}

interface SettleCall {
  readonly outcome: Settlement['outcome']
  readonly positions: readonly string[]
  readonly flags: SettleFlags
}

async function settle(desk: DeadLetterDesk, { outcome, positions, flags }: SettleCall, signal: AbortSignal): Promise<void> {
  const { dryRun, at, rate = Infinity, json } = flags
  const chosen = positions.length > 0 ? positions : await found(desk, flags, signal)
  const settlement: Settlement = { outcome, ...(outcome === 'redriven' && at !== undefined && { at }), ...(dryRun && { dryRun }) }
  const progress = new LetterProgress(chosen.length)
  const onProgress = (done: number): void => progress.show(done)
  const { settled, left } = await settleLetters({ desk, positions: chosen, settlement, ratePerS: rate, onProgress }, signal)
  progress.end()
  if (json) console.log(JSON.stringify({ [dryRun ? `wouldBe${outcome === 'redriven' ? 'Redriven' : 'Dropped'}` : outcome]: settled, left }))
  else {
    console.log(
      `${numberText(settled)} ${settled === 1 ? 'letter' : 'letters'} ${dryRun ? 'would be ' : ''}${outcome}${left.length === 0 ? '' : `, ${numberText(left.length)} left as they are`}`,
    )
    for (const { position, reason } of left.slice(0, 20)) console.error(`${position}: ${reason}`)
    if (left.length > 20) console.error(`… and ${numberText(left.length - 20)} more: --json prints all`)
  }
  if (left.length > 0) process.exitCode = 1
}

/** Found before any is settled: a letter that fails again while the command runs is none of its own. */
async function found(desk: DeadLetterDesk, flags: SettleFlags, signal: AbortSignal): Promise<readonly string[]> {
  const filter = filterOf(flags)
  if (Object.keys(filter).length === 0 && flags.limit === undefined && !flags.all)
    throw new MeshError('INVALID_ARGUMENT', 'which letters? Name them, or give a filter, a --limit, or --all')
  const positions: string[] = []
  const kinds = new Map<string, number>()
  const letters = lettersBy(desk, filter, flags.limit ?? Infinity, signal)
  for await (const letter of letters) {
    positions.push(letter.position)
    kinds.set(kindOf(letter), (kinds.get(kindOf(letter)) ?? 0) + 1)
  }
  if (flags.dryRun && !flags.json)
    for (const [kind, count] of [...kinds].sort((a, b) => b[1] - a[1])) console.log(`${numberText(count)} × ${kind}`)
  return positions
}

const plainEveryMs = 2000

/** How far a command is, on standard error: a line that changes on a terminal, one every few seconds elsewhere. */
class LetterProgress {
  private readonly total: number
  private readonly live = process.stderr.isTTY
  private shownMs = performance.now()
  private shown = false

  constructor(total: number) {
    this.total = total
  }

  show(done: number): void {
    const nowMs = performance.now()
    if (!this.live && nowMs - this.shownMs < plainEveryMs) return
    this.shownMs = nowMs
    this.shown = true
    const text = `${numberText(done)} of ${numberText(this.total)} letters`
    process.stderr.write(this.live ? `\r\u001b[K${text}` : `${text}\n`)
  }

  end(): void {
    if (this.live && this.shown) process.stderr.write('\n')
  }
}
