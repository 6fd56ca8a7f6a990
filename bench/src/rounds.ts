import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { join } from 'node:path'

export interface Contender {
  readonly name: string
  /** One round; the figure is in the benchmark's unit. */
  run(): Promise<number>
}

export interface Figures {
  readonly name: string
  /** Where it is not the benchmark's. */
  readonly unit?: string
  readonly median: number
  readonly min: number
  readonly max: number
  readonly rounds: readonly number[]
}

export interface BenchResult {
  readonly benchmark: string
  readonly unit: string
  /** Placement, partitions, slice size, commit interval and load, in words. */
  readonly setup: string
  readonly figures: readonly Figures[]
  readonly target: string
  readonly reached: string
  readonly met: boolean
  readonly notes?: readonly string[]
}

/** Rounds of all contenders in turn, each second round in reverse, so that the machine's moods, and a server that warms up, fall on each alike. */
export async function alternate(rounds: number, contenders: readonly Contender[]): Promise<readonly Figures[]> {
  const samples = contenders.map(() => [] as number[])
  for (let round = 0; round < rounds; round++) {
    const turns = [...contenders.entries()]
    if (round % 2 === 1) turns.reverse()
    for (const [index, contender] of turns) {
      const figure = await contender.run()
      samples[index]!.push(figure)
      console.log(`  round ${round + 1}/${rounds} ${contender.name}: ${format(figure)}`)
    }
  }
  return contenders.map(({ name }, index) => figures(name, samples[index]!))
}

export function figures(name: string, rounds: readonly number[]): Figures {
  const sorted = [...rounds].sort((a, b) => a - b)
  return { name, median: sorted[sorted.length >> 1]!, min: sorted[0]!, max: sorted.at(-1)!, rounds }
}

export function median(values: readonly number[]): number {
  return figures('', values).median
}

/** Nearest-rank percentile. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

export function format(figure: number): string {
  return figure >= 1000 ? Math.round(figure).toLocaleString('en') : figure.toPrecision(3)
}

/** Writes `<name>.json` and adds nothing of the machine but its size. */
export function writeResult(result: BenchResult): void {
  const folder = join(import.meta.dirname, '..', 'results')
  mkdirSync(folder, { recursive: true })
  const machine = {
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  }
  writeFileSync(join(folder, `${result.benchmark}.json`), `${JSON.stringify({ ...result, machine }, null, 2)}\n`)
  console.log(`${result.benchmark}: ${result.met ? 'met' : 'MISSED'}: ${result.reached} (target: ${result.target})`)
  for (const { name, unit = result.unit, median, min, max } of result.figures)
    console.log(`  ${name}: ${[format(median), unit].join(' ').trim()} (${format(min)} to ${format(max)})`)
}
