import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { logisticModel, writeModel } from '../../libs/serving/test/onnx-builder.ts'
import type { CheckedRecord } from '../checker/record.ts'
import { anyPorts, SpillwayProcess } from './processes.ts'

/** Stages that refuse some rows for as long as a file is there: one before the features, one behind them, one behind the tiers. */
const gates = `
import { existsSync } from 'node:fs'

const gate = (left: number) => ({
  process(batch: any, { settings }: { settings: { broken: string } }) {
    if (!existsSync(settings.broken)) return batch
    const failures = batch.meta.ids.flatMap((id: string, row: number) =>
      Number(id) % 10 === left ? [{ row, error: new Error('the gate is shut for ' + id) }] : [])
    return { batch, failures }
  },
})

export const before = gate(1)
export const behind = gate(3)
export const last = gate(7)
`

export const partitions = 4
export const customers = 7

/** A pipeline in a folder of its own, whose names begin with `run`. */
export class LettersRun {
  readonly run: string
  readonly pipeline: string
  readonly broken: string
  private readonly folder: string

  constructor(folder: string, run: string) {
    this.run = run
    this.folder = folder
    this.pipeline = join(folder, 'pipeline.yaml')
    this.broken = join(folder, 'broken')
  }

  topic(name: string): string {
    return `${this.run}.${name}`
  }

  async write(): Promise<void> {
    mkdirSync(this.folder, { recursive: true })
    await writeModel(join(this.folder, 'models'), 'm', 1, logisticModel([0.1, 0.01], -1))
    writeFileSync(join(this.folder, 'gates.ts'), gates)
    writeFileSync(this.broken, '')
    const own = (name: string, at: string): string =>
      `  - { name: ${name}, module: ./gates.ts, export: ${name}, at: ${at}, settings: { broken: ${JSON.stringify(this.broken)} } }`
    const text = [
      `pipeline: ${this.run}`,
      'release: r1',
      `partitions: ${partitions}`,
      'inputs:',
      `  payments: { topic: ${this.topic('payments')}, id: number, key: customer, fields: { number: integer, customer: string, amount: number } }`,
      'features:',
      '  histories: { customer: { input: payments, key: customer } }',
      '  columns: { count_7d: { window: count, history: customer, length: 7d } }',
      '  vector: [amount, count_7d]',
      'stages:',
      own('before', 'events'),
      own('behind', 'features'),
      own('last', 'scored'),
      'cascade: { tiers: [{ model: m }] }',
      `outputs: { predictions: { topic: ${this.topic('predictions')}, include: [customer], features: [count_7d] }, alerts: { topic: ${this.topic('alerts')} } }`,
      'placement: { features: topic, scored: topic, models: local }',
    ]
    writeFileSync(this.pipeline, `${text.join('\n')}\n`)
  }

  mend(): void {
    rmSync(this.broken, { force: true })
  }

  up(bus: string): SpillwayProcess {
    const args = ['up', '--pipeline', this.pipeline, '--data', join(this.folder, 'data'), '--bus', bus, ...anyPorts]
    return new SpillwayProcess(args, this.folder)
  }

  dlq(verb: string, where: readonly string[], ...args: readonly string[]): SpillwayProcess {
    return new SpillwayProcess(['dlq', verb, '--pipeline', this.pipeline, ...where, ...args], this.folder)
  }

  /** Runs such a command to its end. @returns what it printed, a line each */
  async said(verb: string, where: readonly string[], ...args: readonly string[]): Promise<readonly string[]> {
    const command = this.dlq(verb, where, ...args)
    await command.finished(60_000)
    return command.output.trimEnd().split('\n')
  }
}

export const payment = (number: number): string => JSON.stringify({ number, customer: `c${number % customers}`, amount: (number % 50) + 1 })

/** What the window of each payment counts: those of its customer before it, as far as they were history when it was looked at. */
export function expectedCounts(count: number): ReadonlyMap<string, number> {
  const all = new Map<number, number>()
  const heeded = new Map<number, number>()
  const counts = new Map<string, number>()
  for (let number = 0; number < count; number++) {
    const customer = number % customers
    all.set(customer, (all.get(customer) ?? 0) + 1)
    // Those that were stopped before the features came into history only with their letters, after all others, one after the other.
    const late = number % 10 === 1
    if (!late) heeded.set(customer, (heeded.get(customer) ?? 0) + 1)
    counts.set(String(number), late ? all.get(customer)! : heeded.get(customer)!)
  }
  return counts
}

/** What each prediction's window counted, by event. @throws Error where one is answered twice, or does not say that its letter was given back */
export function answeredCounts(predictions: readonly CheckedRecord[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { value, headers } of predictions) {
    const { id, features } = JSON.parse(value) as { id: string; features: { count_7d: number } }
    if (counts.has(id)) throw new Error(`two answers to ${id}`)
    const redriven = [1, 3, 7].includes(Number(id) % 10) ? '1' : undefined
    if (headers?.['spillway-redriven'] !== redriven)
      throw new Error(`${id} says that it was given back ${headers?.['spillway-redriven']} times`)
    counts.set(id, features.count_7d)
  }
  return counts
}
