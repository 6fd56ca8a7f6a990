/** What was found wrong: how often, and the first few by name. */
export interface Finding {
  readonly count: number
  readonly examples: readonly string[]
}

export interface Report {
  readonly inputs: number
  readonly predictions: number
  readonly alerts: number
  readonly deadLetters: number
  /** Dead letters of topics that only feed histories. */
  readonly historyDeadLetters: number
  readonly degraded: number
  readonly byTier: Readonly<Record<string, number>>
  readonly scoresChecked: number
  readonly featuresChecked: number
  /** Inputs with neither a prediction nor a dead letter, and those that were acknowledged and are not on their topic. */
  readonly lost: Finding
  /** Predictions and dead letters beyond one an input. */
  readonly duplicated: Finding
  /** Predictions and dead letters of no input. */
  readonly unexpected: Finding
  /** Predictions of a key and tier that do not follow their inputs' order. */
  readonly outOfOrder: Finding
  /** Tier, reason or score other than recomputed. */
  readonly wrongScores: Finding
  /** Features shown on predictions other than recomputed. */
  readonly wrongFeatures: Finding
  /** Whatever else a prediction says that is not so: its decision, time, id, copied fields. */
  readonly wrongContent: Finding
  /** Alerts missing, or too many. */
  readonly wrongAlerts: Finding
  /** Dead letters without the original bytes or the headers that say where they come from and why, and those of events that nothing was wrong with. */
  readonly wrongDeadLetters: Finding
}

export const findings = [
  'lost',
  'duplicated',
  'unexpected',
  'outOfOrder',
  'wrongScores',
  'wrongFeatures',
  'wrongContent',
  'wrongAlerts',
  'wrongDeadLetters',
] as const

export function isClean(report: Report): boolean {
  return findings.every((name) => report[name].count === 0)
}

/** One line, then the examples of whatever was found. */
export function summary(report: Report): string {
  const tiers = Object.entries(report.byTier).map(([tier, count]) => `${tier} ${count}`)
  const counts = findings.map((name) => `${words(name)} ${report[name].count}`)
  const line =
    `inputs ${report.inputs}, predictions ${report.predictions} (${[...tiers, `degraded ${report.degraded}`].join(', ')}), alerts ${report.alerts}, ` +
    `dead letters ${report.deadLetters}, scores checked ${report.scoresChecked}, features checked ${report.featuresChecked}: ${counts.join(', ')}`
  const examples = findings.flatMap((name) => report[name].examples.map((example) => `  ${words(name)}: ${example}`))
  return [line, ...examples].join('\n')
}

function words(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
}

const maxExamples = 5

/** Counts findings, and keeps the first few. */
export class Collector {
  count = 0
  readonly examples: string[] = []

  add(example: string): void {
    if (++this.count <= maxExamples) this.examples.push(example)
  }
}
