import { type Answers, matchAnswers } from './answers.ts'
import { checkDeadLetters } from './dead-letters.ts'
import { featureNames, Features, readTransaction, type Transaction } from './features.ts'
import { type CheckedRecord, inLogOrder, jsonObject } from './record.ts'
import { Collector, type Report } from './report.ts'
import { Cascade, scoreTolerance, type Tier } from './scores.ts'

/** What the pipeline file says, as far as answers depend on it. */
export interface PipelineFacts {
  readonly transactionsTopic: string
  readonly labelsTopic: string
  /** Directory of the model repository. */
  readonly models: string
  readonly tiers: readonly Tier[]
  readonly alertAtLeast: number
  /** Fields that predictions copy from their transaction. */
  readonly include: readonly string[]
  /** Whether each prediction shows the whole vector (`outputs.predictions.features: true`). */
  readonly showsFeatures?: boolean
}

/** Where a publish that was acknowledged put its record. */
export interface Acknowledged {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export interface Run {
  /** What lay on each input topic when the run had ended. */
  readonly inputs: Readonly<Record<string, readonly CheckedRecord[]>>
  readonly predictions: readonly CheckedRecord[]
  readonly deadLetters: readonly CheckedRecord[]
  /** Not checked where absent. */
  readonly alerts?: readonly CheckedRecord[]
  readonly pipeline: PipelineFacts
  /** How many predictions are recomputed, evenly spread over the run; all where absent. Features that are shown are all recomputed. */
  readonly sample?: number
  /** What must lie on the input topics, whatever else does; not checked where absent. */
  readonly acknowledged?: readonly Acknowledged[]
  /** Which inputs may have become dead letters; any may where absent. */
  readonly mayBeDead?: (topic: string, record: CheckedRecord) => boolean
}

/** Compares a finished run's outputs with its inputs. Shares no code with what it checks. */
export async function check(run: Run): Promise<Report> {
  const { pipeline } = run
  const inputs = inLogOrder(run.inputs[pipeline.transactionsTopic] ?? [])
  const labels = run.inputs[pipeline.labelsTopic] ?? []
  const deadLetters = checkDeadLetters(run.deadLetters, run.inputs)
  const isDead = (topic: string, record: CheckedRecord): boolean => deadLetters.sources.has(`${topic}/${record.partition}/${record.offset}`)
  const answers = matchAnswers(inputs, (record) => isDead(pipeline.transactionsTopic, record), inLogOrder(run.predictions))
  const unanswered = inputs.filter(({ partition, offset }) =>
    deadLetters.remembered.has(`${pipeline.transactionsTopic}/${partition}/${offset}`),
  )
  const features = new Features(
    [...answers.answerable, ...unanswered.flatMap((record) => readTransaction(record) ?? [])],
    labels.filter((record) => !isDead(pipeline.labelsTopic, record)),
  )
  const content = new Collector()
  for (const answer of answers.matched) checkContent(answer.transaction, answer.prediction, pipeline, content)
  const scores = await checkScores(answers, features, run)
  const shown = checkFeatures(answers, features, pipeline)
  return {
    inputs: inputs.length,
    predictions: run.predictions.length,
    alerts: run.alerts?.length ?? 0,
    deadLetters: deadLetters.ofInput(pipeline.transactionsTopic),
    historyDeadLetters: deadLetters.ofInput(pipeline.labelsTopic),
    degraded: answers.matched.filter(({ prediction }) => prediction['degraded'] === true).length,
    byTier: Object.fromEntries(countBy(answers.matched.map(({ prediction }) => String(prediction['tier'])))),
    scoresChecked: scores.checked,
    featuresChecked: shown.checked,
    lost: merge(answers.lost, missing(run)),
    duplicated: merge(answers.duplicated, deadLetters.duplicated),
    unexpected: merge(answers.unexpected, deadLetters.unexpected),
    outOfOrder: answers.outOfOrder,
    wrongScores: scores.wrong,
    wrongFeatures: shown.wrong,
    wrongContent: content,
    wrongAlerts: checkAlerts(answers, run.alerts),
    wrongDeadLetters: merge(deadLetters.wrong, goodOnesDead(run, isDead)),
  }
}

/** What was acknowledged and is not there. */
function missing(run: Run): Collector {
  const lost = new Collector()
  const places = new Set(
    Object.entries(run.inputs).flatMap(([topic, records]) => records.map(({ partition, offset }) => `${topic}/${partition}/${offset}`)),
  )
  for (const { topic, partition, offset } of run.acknowledged ?? []) {
    const place = `${topic}/${partition}/${offset}`
    if (!places.has(place)) lost.add(`input ${place} was acknowledged and is not there`)
  }
  return lost
}

function goodOnesDead({ inputs, mayBeDead }: Run, isDead: (topic: string, record: CheckedRecord) => boolean): Collector {
  const wrong = new Collector()
  if (mayBeDead === undefined) return wrong
  for (const [topic, records] of Object.entries(inputs))
    for (const record of records)
      if (isDead(topic, record) && !mayBeDead(topic, record))
        wrong.add(`${topic}/${record.partition}/${record.offset} became a dead letter, and nothing was wrong with it`)
  return wrong
}

/** Each shown value is the recomputed one, but for the last bits of a 32-bit number. */
function checkFeatures(answers: Answers, features: Features, pipeline: PipelineFacts): { checked: number; wrong: Collector } {
  const wrong = new Collector()
  if (pipeline.showsFeatures !== true) return { checked: 0, wrong }
  for (const { transaction, prediction } of answers.matched) {
    const shown = (prediction['features'] ?? {}) as Record<string, unknown>
    const expected = features.of(transaction)
    const differing = featureNames.filter((name, index) => {
      const [value, right] = [shown[name], expected[index]!]
      return typeof value !== 'number' || Math.abs(value - right) > 1e-6 * Math.max(1, Math.abs(right))
    })
    const list = differing.map((name) => `${name} is ${String(shown[name])} instead of ${expected[featureNames.indexOf(name)]}`)
    if (list.length > 0) wrong.add(`transaction ${transaction.id}: ${list.join(', ')}`)
  }
  return { checked: answers.matched.length, wrong }
}

function checkContent(transaction: Transaction, prediction: Record<string, unknown>, pipeline: PipelineFacts, wrong: Collector): void {
  const event = jsonObject(transaction.record)!
  const score = prediction['score']
  const differing = pipeline.include.filter((field) => prediction[field] !== event[field])
  if (String(prediction['id']) !== transaction.id) differing.push('id')
  if (Date.parse(String(prediction['event_time'])) !== transaction.timeMs) differing.push('event_time')
  if (typeof score !== 'number' || prediction['decision'] !== score >= pipeline.alertAtLeast) differing.push('decision')
  if ((prediction['degraded'] === true) !== (prediction['reason'] === 'degraded')) differing.push('degraded')
  if (differing.length > 0)
    wrong.add(`transaction ${transaction.id}: ${differing.map((field) => `${field} is ${JSON.stringify(prediction[field])}`).join(', ')}`)
}

async function checkScores(answers: Answers, features: Features, run: Run): Promise<{ checked: number; wrong: Collector }> {
  const wrong = new Collector()
  const step = Math.max(1, answers.matched.length / (run.sample ?? Infinity))
  const cascade = await Cascade.load(run.pipeline.models, run.pipeline.tiers)
  let checked = 0
  for (let at = 0; Math.floor(at) < answers.matched.length; at += step) {
    const { transaction, prediction } = answers.matched[Math.floor(at)]!
    const right = await cascade.answers(features.of(transaction), prediction['degraded'] === true)
    const { tier, reason, score } = prediction
    checked++
    const found = right.some(
      (each) => each.tier === tier && each.reason === reason && Math.abs(each.score - Number(score)) <= scoreTolerance,
    )
    if (found) continue
    const expected = right.map((each) => `${each.tier} ${each.reason} ${each.score}`).join(' or ')
    wrong.add(`transaction ${transaction.id}: ${String(tier)} ${String(reason)} ${String(score)} instead of ${expected}`)
  }
  await cascade.close()
  return { checked, wrong }
}

/** Each prediction whose decision is positive has one alert, and no other has. */
function checkAlerts(answers: Answers, alerts: readonly CheckedRecord[] | undefined): Collector {
  const wrong = new Collector()
  if (alerts === undefined) return wrong
  const raised = countBy(
    alerts.map((alert) => String((jsonObject(alert)?.['transaction_id'] as number | undefined) ?? alert.headers?.['ce_id'])),
  )
  const due = countBy(answers.matched.filter(({ prediction }) => prediction['decision'] === true).map(({ transaction }) => transaction.id))
  for (const id of new Set([...raised.keys(), ...due.keys()])) {
    const [found, expected] = [raised.get(id) ?? 0, due.get(id) ?? 0]
    if (found !== expected) wrong.add(`transaction ${id}: ${found} alerts instead of ${expected}`)
  }
  return wrong
}

function countBy(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

function merge(first: Collector, second: Collector): Collector {
  const both = new Collector()
  for (const { count, examples } of [first, second]) {
    both.count += count
    both.examples.push(...examples)
  }
  return both
}
