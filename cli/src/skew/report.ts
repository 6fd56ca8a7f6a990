import { shortest } from '../tables/text-value.ts'
import type { Comparison } from './compare.ts'
import type { Distribution } from './distribution.ts'

/** Population stability above this is a change to be looked at. */
export const flagAbove = 0.2

/** The comparison for people. */
export function reportText(comparison: Comparison): string {
  const { rowsCompared, rowsThatDiffer, onlyInLog, onlyInTraining, skew, examples } = comparison
  const lines = [
    `${rowsCompared} rows compared, ${rowsThatDiffer} of them differ; ${onlyInLog.rows} rows only in the log, ${onlyInTraining.rows} only in the export`,
    ...sample('only in the log', onlyInLog.examples),
    ...sample('only in the export', onlyInTraining.examples),
    ...definitionLines(comparison),
    '',
  ]
  if (skew.length === 0) lines.push('No skew: every feature of every row is the same.')
  else {
    lines.push(
      'Skew:',
      ...table(
        ['feature', 'rows', 'largest difference'],
        skew.map(({ feature, rows, largest }) => [feature, String(rows), numberText(largest)]),
      ),
    )
    lines.push('', 'First examples:')
    lines.push(
      ...table(
        ['id', 'feature', 'live', 'training'],
        examples.map(({ id, feature, live, training }) => [id, feature, valueText(live), valueText(training)]),
      ),
    )
  }
  return [...lines, '', ...driftLines(comparison)].join('\n')
}

function sample(what: string, ids: readonly string[]): string[] {
  return ids.length === 0 ? [] : [`  ${what}: ${ids.slice(0, 5).join(', ')}${ids.length > 5 ? ' …' : ''}`]
}

function definitionLines({ definitions: { log, training } }: Comparison): string[] {
  const [logged, trained] = [Object.keys(log), Object.keys(training)]
  if (logged.length === 0 || trained.length === 0 || (logged.length === 1 && trained.length === 1 && logged[0] === trained[0])) return []
  const text = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([hash, rows]) => `${hash} (${rows} rows)`)
      .join(', ')
  return [`The rows were made by different definitions: log ${text(log)}; export ${text(training)}`]
}

function driftLines({ drift }: Comparison): string[] {
  const row = (
    name: string,
    side: string,
    { rows, missingShare, mean, deviation, ...quantiles }: Distribution,
    stability: string,
  ): string[] => [
    name,
    side,
    String(rows),
    `${(missingShare * 100).toFixed(1)} %`,
    numberText(mean),
    numberText(deviation),
    ...[quantiles.p05, quantiles.p25, quantiles.p50, quantiles.p75, quantiles.p95].map(numberText),
    stability,
  ]
  const rows = drift.flatMap(({ feature, live, training, stability }) => [
    row(feature, 'live', live, `${numberText(stability)}${stability > flagAbove ? ' !' : ''}`),
    row('', 'training', training, ''),
  ])
  const head = ['feature', '', 'rows', 'missing', 'mean', 'deviation', 'p05', 'p25', 'p50', 'p75', 'p95', 'PSI']
  return [
    'Drift, live against training (PSI: population stability index over deciles of training; above 0.2 is marked !):',
    ...table(head, rows),
  ]
}

function valueText(value: number | null): string {
  if (value === null) return 'missing'
  // Features are FP32, which FP64 would show with digits that say nothing.
  return String(Math.fround(value) === value ? shortest(value) : value)
}

function numberText(value: number): string {
  return Number.isNaN(value) ? '-' : String(Number(value.toPrecision(4)))
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)))
  return [head, ...rows].map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')}`.trimEnd())
}
