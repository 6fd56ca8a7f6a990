import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Bus, sliceRecords } from '@spillway/bus'
import { textColumn } from '@spillway/core'
import { type PlayEvent, playEvents, buildWorld, smallSize, topicRecords } from '@spillway/example-fraud'
import { parse, stringify } from 'yaml'
import type { CheckedRecord } from '../checker/record.ts'
import type { PipelineFacts } from '../checker/check.ts'
import { repositoryRoot } from './processes.ts'

export const fraudFolder: string = join(repositoryRoot, 'examples', 'fraud')

/** The fraud pipeline under names of its own, so that runs share a broker without meeting. */
export interface FraudNames {
  readonly pipeline: string
  readonly transactions: string
  readonly labels: string
  readonly predictions: string
  readonly alerts: string
  readonly deadLetters: string
}

export function fraudNames(run: string): FraudNames {
  const topic = (name: string): string => `${run}.${name}`
  return {
    pipeline: run,
    transactions: topic('transactions'),
    labels: topic('labels'),
    predictions: topic('predictions'),
    alerts: topic('alerts'),
    deadLetters: topic('dead-letters'),
  }
}

interface PipelineYaml {
  pipeline: string
  models?: string
  inputs: Record<string, { topic?: string }>
  outputs?: { predictions?: { topic?: string; include?: string[] }; alerts?: { topic?: string; atLeast?: number } }
  cascade: { tiers: { model: string; accept?: { below?: number; above?: number } }[] }
  placement?: Record<string, string>
}

/** Writes the example's pipeline file with those names into `folder`. @returns its path */
export function writePipeline(
  folder: string,
  names: FraudNames,
  {
    placement,
    predictions,
  }: { readonly placement?: Readonly<Record<string, string>>; readonly predictions?: Readonly<Record<string, unknown>> } = {},
): string {
  const file = parse(readFileSync(join(fraudFolder, 'pipeline.yaml'), 'utf8')) as PipelineYaml
  file.pipeline = names.pipeline
  file.models = join(fraudFolder, 'models')
  file.inputs['transactions']!.topic = names.transactions
  file.inputs['labels']!.topic = names.labels
  file.outputs = {
    predictions: { ...file.outputs?.predictions, topic: names.predictions, ...predictions },
    alerts: { ...file.outputs?.alerts, topic: names.alerts },
  }
  if (placement !== undefined) file.placement = { ...file.placement, ...placement }
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${names.pipeline}.yaml`)
  writeFileSync(path, stringify(file))
  return path
}

/** What the checker needs to know of the pipeline, from the example's file. */
export function pipelineFacts(names: FraudNames): PipelineFacts {
  const file = parse(readFileSync(join(fraudFolder, 'pipeline.yaml'), 'utf8')) as PipelineYaml
  return {
    transactionsTopic: names.transactions,
    labelsTopic: names.labels,
    models: join(fraudFolder, 'models'),
    tiers: file.cascade.tiers.map(({ model, accept }) => ({ model, ...accept })),
    alertAtLeast: file.outputs?.alerts?.atLeast ?? 0.5,
    include: file.outputs?.predictions?.include ?? [],
  }
}

/** The first `transactions` transactions of a small world and all labels that become known before the last of them. */
export function fraudEvents(transactions: number): readonly PlayEvent[] {
  const events: PlayEvent[] = []
  let seen = 0
  for (const event of playEvents(buildWorld(smallSize))) {
    if (event.topic === 'transactions' && seen++ === transactions) break
    events.push(event)
  }
  return events
}

/** An event's JSON as it stands on its topic, with a field changed or removed: what a broken producer sends. */
export function brokenEvents(): readonly { readonly value: string; readonly code: string; readonly field?: string }[] {
  const good = { transaction_id: 900_000_001, customer_id: 1, terminal_id: 1, amount: 10, tx_datetime: '2018-04-01T00:00:00Z' }
  const changed = (change: Record<string, unknown>): string => JSON.stringify({ ...good, ...change })
  return [
    { value: '{"transaction_id": 900000001, "customer_id"', code: 'INVALID_ARGUMENT' },
    { value: changed({ amount: undefined }), code: 'INVALID_ARGUMENT', field: 'amount' },
    { value: changed({ amount: 'ten' }), code: 'INVALID_ARGUMENT', field: 'amount' },
    {
      value: '{"transaction_id":900000001,"customer_id":1,"terminal_id":1,"amount":1e999,"tx_datetime":"2018-04-01T00:00:00Z"}',
      code: 'INVALID_ARGUMENT',
      field: 'amount',
    },
    { value: changed({ amount: -5 }), code: 'INVALID_ARGUMENT', field: 'amount' },
    { value: changed({ tx_datetime: 'yesterday' }), code: 'INVALID_ARGUMENT', field: 'tx_datetime' },
    { value: changed({ padding: 'x'.repeat(300_000) }), code: 'INVALID_ARGUMENT' },
  ]
}

/**
 * Makes the input topics and fills them: everything waits on its topic before the mesh starts. Inputs that are there are read within `maxSkew` of
 * each other, while one that is still to come would be taken for an idle one.
 * @param broken values that stand on the transactions' topic behind all others
 */
export async function publishBacklog(bus: Bus, names: FraudNames, transactions: number, broken: readonly string[]): Promise<void> {
  const events = fraudEvents(transactions)
  await bus.topics.ensure([names.transactions, names.labels].map((name) => ({ name, partitions: 8 })))
  for (const topic of ['transactions', 'labels'] as const) {
    const records = topicRecords(events, topic)
    for (let start = 0; start < records.count; start += 2000)
      await bus.publish(names[topic], sliceRecords(records, start, Math.min(records.count, start + 2000)))
  }
  if (broken.length > 0)
    await bus.publish(names.transactions, { count: broken.length, keys: textColumn(broken.map(() => '1')), values: textColumn(broken) })
}

export { topicRecords }

export interface Decision {
  readonly score: number
  readonly rest: string
}

/** What was decided, by transaction, for comparing runs. */
export function decisions(predictions: readonly CheckedRecord[]): ReadonlyMap<string, Decision> {
  return new Map(
    predictions.map(({ value }) => {
      const { transaction_id: id, score, tier, reason, decision } = JSON.parse(value) as Record<string, unknown>
      return [String(id), { score: Number(score), rest: JSON.stringify([tier, reason, decision]) }]
    }),
  )
}

/** Equal tier, reason and decision; a score may fall on the other side of a rounding edge, since runtimes differ in the last bits between batch sizes. */
export function sameDecision(a: Decision | undefined, b: Decision | undefined): boolean {
  return a !== undefined && b !== undefined && a.rest === b.rest && Math.abs(a.score - b.score) < 1.5e-6
}
