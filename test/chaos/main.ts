import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openSystem } from './open-system.ts'
import { describeFault, planFaults } from './plan.ts'
import { runChaos } from './run.ts'
import type { BusName, Links, System } from './system.ts'
import { isKept, verdict } from './verdict.ts'

const usage = `usage: npm run chaos [-- --bus kafka|embedded|nats] [--links topic|grpc] [--faults N | --minutes N] [--seed S] [--rate R] [--logs FOLDER]

Runs the fraud pipeline as processes over a real broker, breaks them by the seed's plan, and has an independent checker say what was lost, doubled
or wrong. Without --bus: kafka, then embedded. Exit code 0: nothing was; 1: something was; 2: it could not be run.`

const flags = {
  bus: { type: 'string', multiple: true },
  links: { type: 'string', default: 'topic' },
  faults: { type: 'string' },
  minutes: { type: 'string' },
  seed: { type: 'string', default: '1' },
  rate: { type: 'string', default: '200' },
  calm: { type: 'string', default: '15' },
  logs: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function oneOf<T extends string>(flag: string, text: string, known: readonly T[]): T {
  const found = known.find((each) => each === text)
  if (found === undefined) throw new Error(`--${flag} ${text}: expected ${known.join(', ')}\n\n${usage}`)
  return found
}

function number(flag: string, text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${flag} ${text}: expected a number above 0`)
  return value
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: flags })
  if (values.help) {
    say(usage)
    return 0
  }
  const links = oneOf<Links>('links', values.links, ['topic', 'grpc'])
  const buses = (values.bus ?? ['kafka', 'embedded']).map((bus) => oneOf<BusName>('bus', bus, ['kafka', 'embedded', 'nats']))
  const faults = values.faults !== undefined ? number('faults', values.faults) : values.minutes !== undefined ? Infinity : 20
  const minutes = values.minutes !== undefined ? number('minutes', values.minutes) : Infinity
  const options = { faults, minutes, links, seed: number('seed', values.seed), rate: number('rate', values.rate) }
  let kept = true
  for (const bus of buses) kept = (await chaos(bus, { ...options, calmMs: number('calm', values.calm) * 1000, logs: values.logs })) && kept
  return kept ? 0 : 1
}

interface Settings {
  readonly faults: number
  readonly minutes: number
  readonly links: Links
  readonly seed: number
  readonly rate: number
  readonly calmMs: number
  readonly logs: string | undefined
}

async function chaos(bus: BusName, { faults, minutes, links, seed, rate, calmMs, logs }: Settings): Promise<boolean> {
  const system = await openSystem(bus, links)
  if ('skipped' in system) throw new Error(`no ${bus}: ${system.skipped}`)
  // Faults and publishers are at work: nothing waits for them, and what this process has started ends with it.
  const interrupted = (): never => {
    for (const instance of system.instances.values()) void instance.end('SIGKILL')
    process.exit(130)
  }
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
  try {
    const length = faults === Infinity ? `${minutes} minutes` : `${faults} faults`
    say(`${bus}, ${bus === 'embedded' ? 'one process' : `${links} links`}, ${rate} transactions a second, ${length}, seed ${seed}`)
    const plan = faults === Infinity ? planFaults(seed, system.menu) : planFaults(seed, system.menu).take(faults).toArray()
    if (Array.isArray(plan))
      for (const [index, { fault, settles }] of plan.entries())
        say(`plan ${index + 1}: ${describeFault(fault)}${settles ? '' : '; the next comes on top'}`)
    const outcome = await runChaos(system, {
      name: links === 'grpc' && bus !== 'embedded' ? `${bus} with grpc links` : bus,
      seed,
      plan,
      minutes,
      ratePerS: rate,
      calmMs,
      sample: 20_000,
      say,
    })
    say(verdict(outcome))
    return isKept(outcome)
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
    if (logs !== undefined) writeLogs(logs, bus, system)
    await system.close()
  }
}

/** What the processes printed: of a run that was broken off too. */
function writeLogs(folder: string, bus: BusName, system: System): void {
  mkdirSync(folder, { recursive: true })
  for (const { name, log } of system.instances.values()) writeFileSync(join(folder, `${bus}-${name}.log`), log)
}

let code = 2
try {
  code = await main()
} catch (thrown) {
  process.stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`)
}
// All is closed, but for a client that could not take leave of its broker.
process.exit(code)
