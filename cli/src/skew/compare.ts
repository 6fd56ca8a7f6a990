import { MeshError } from '@spillway/core'
import type { Table } from '../tables/read-table.ts'
import type { ReadRows } from '../tables/table-source.ts'
import { DriftMeter, type FeatureDrift } from './drift.ts'
import { positionOf, rowKeyColumns, TrainingIndex } from './training-index.ts'

export interface CompareOptions {
  /** What was served. */
  readonly log: Table
  /** What was exported for training. */
  readonly training: Table
  /** Those of the tables where absent. */
  readonly features?: readonly string[]
  /** Values differ where they are further apart than this, times the training value where that is above 1. */
  readonly tolerance: number
  /** Examples that are given of each kind. */
  readonly limit: number
}

export interface Comparison {
  readonly features: readonly string[]
  readonly rowsCompared: number
  readonly rowsThatDiffer: number
  readonly onlyInLog: RowsOfOne
  readonly onlyInTraining: RowsOfOne
  /** Features that differ anywhere, most rows first. */
  readonly skew: readonly FeatureSkew[]
  readonly examples: readonly SkewExample[]
  /** Hashes of the feature definitions that made the rows, with how many. */
  readonly definitions: { readonly log: Readonly<Record<string, number>>; readonly training: Readonly<Record<string, number>> }
  readonly drift: readonly FeatureDrift[]
}

interface RowsOfOne {
  readonly rows: number
  readonly examples: readonly string[]
}

interface FeatureSkew {
  readonly feature: string
  readonly rows: number
  /** Largest distance between the two values; NaN where it is one of them that is missing. */
  readonly largest: number
}

interface SkewExample {
  readonly id: string
  readonly feature: string
  /** null where it is missing. */
  readonly live: number | null
  readonly training: number | null
}

/** Joins what was served with what is trained on, row by row. The export is held in memory, the log is read once. @throws MeshError INVALID_ARGUMENT */
export async function compare(options: CompareOptions): Promise<Comparison> {
  const { log, training } = options
  const features = options.features ?? commonFeatures(log, training)
  for (const table of [log, training]) checkColumns(table, features)
  const index = new TrainingIndex(features)
  const trained = new Definitions(training)
  for await (const rows of training.read(wanted(features))) {
    trained.add(rows)
    index.add(rows)
  }
  const served = new Definitions(log)
  const drift = new DriftMeter(index.vectors)
  const skew = new SkewCounter(features, index, options)
  for await (const rows of log.read(wanted(features))) {
    served.add(rows)
    const columns = features.map((name) => rows.numbers.get(name)!)
    drift.add(columns, rows.rowCount)
    skew.add(rows, columns)
  }
  return {
    features,
    ...skew.result(),
    onlyInTraining: { rows: index.unseenRows, examples: index.unseenIds(options.limit) },
    definitions: { log: served.counts, training: trained.counts },
    drift: drift.summary(),
  }
}

function wanted(features: readonly string[]): { texts: readonly string[]; numbers: readonly string[] } {
  return { texts: [...rowKeyColumns.texts, 'definition_hash'], numbers: [...rowKeyColumns.numbers, ...features] }
}

const notFeatures: ReadonlySet<string> = new Set([
  'id',
  'key',
  'event_time',
  'topic',
  'partition',
  'offset',
  'definition_hash',
  'release',
  'mode',
])

/** What the tables say that their features are; else every column that both have and that is none of a row's own. */
function commonFeatures(log: Table, training: Table): readonly string[] {
  const said = [training, log].map(({ metadata }) => metadata['spillway.features']).find((text) => text !== undefined)
  if (said !== undefined) return JSON.parse(said) as string[]
  const common = training.columns.filter((name) => log.columns.includes(name) && !notFeatures.has(name))
  if (common.length > 0) return common
  throw new MeshError('INVALID_ARGUMENT', `${log.path} and ${training.path} have no feature in common: name them with --features`, {
    field: '--features',
  })
}

function checkColumns({ path, columns }: Table, features: readonly string[]): void {
  for (const name of ['id', ...features])
    if (!columns.includes(name)) throw new MeshError('INVALID_ARGUMENT', `${path} has no column "${name}": it has ${columns.join(', ')}`)
}

/** By which definitions a table's rows were made: a column of a log, one for all of an export. */
class Definitions {
  readonly counts: Record<string, number> = {}
  private readonly whole: string

  constructor(table: Table) {
    this.whole = table.metadata['spillway.definition'] ?? ''
  }

  add({ texts, rowCount }: ReadRows): void {
    const hashes = texts.get('definition_hash')
    for (let row = 0; row < rowCount; row++) {
      const hash = hashes?.[row] ?? this.whole
      if (hash !== '') this.counts[hash] = (this.counts[hash] ?? 0) + 1
    }
  }
}

class SkewCounter {
  private readonly features: readonly string[]
  private readonly index: TrainingIndex
  private readonly tolerance: number
  private readonly limit: number
  private readonly differing: Float64Array
  private readonly largest: Float64Array
  private readonly examples: SkewExample[] = []
  private readonly strangers: string[] = []
  private compared = 0
  private rowsThatDiffer = 0
  private strangerCount = 0

  constructor(features: readonly string[], index: TrainingIndex, { tolerance, limit }: CompareOptions) {
    this.features = features
    this.index = index
    this.tolerance = tolerance
    this.limit = limit
    this.differing = new Float64Array(features.length)
    this.largest = new Float64Array(features.length).fill(NaN)
  }

  add(rows: ReadRows, columns: readonly Float64Array[]): void {
    const ids = rows.texts.get('id')!
    for (let row = 0; row < rows.rowCount; row++) {
      const found = this.index.find(ids[row]!, positionOf(rows, row))
      if (found < 0) {
        this.strangerCount++
        if (this.strangers.length < this.limit) this.strangers.push(ids[row]!)
        continue
      }
      this.index.markSeen(found)
      this.compared++
      this.compareRow(ids[row]!, found, row, columns)
    }
  }

  result(): Pick<Comparison, 'rowsCompared' | 'rowsThatDiffer' | 'onlyInLog' | 'skew' | 'examples'> {
    const skew = this.features
      .map((feature, index) => ({ feature, rows: this.differing[index]!, largest: this.largest[index]! }))
      .filter(({ rows }) => rows > 0)
      .sort((a, b) => b.rows - a.rows)
    return {
      rowsCompared: this.compared,
      rowsThatDiffer: this.rowsThatDiffer,
      onlyInLog: { rows: this.strangerCount, examples: this.strangers },
      skew,
      examples: this.examples,
    }
  }

  private compareRow(id: string, found: number, row: number, columns: readonly Float64Array[]): void {
    let differs = false
    for (let feature = 0; feature < columns.length; feature++) {
      const live = Math.fround(columns[feature]![row]!)
      const training = this.index.vectors.value(feature, found)
      if (this.same(live, training)) continue
      differs = true
      this.differing[feature]!++
      const distance = Math.abs(live - training)
      if (!(this.largest[feature]! >= distance)) this.largest[feature] = Number.isNaN(distance) ? this.largest[feature]! : distance
      if (this.examples.length < this.limit)
        this.examples.push({ id, feature: this.features[feature]!, live: orNull(live), training: orNull(training) })
    }
    if (differs) this.rowsThatDiffer++
  }

  private same(live: number, training: number): boolean {
    if (live === training) return true
    if (Number.isNaN(live) || Number.isNaN(training)) return Number.isNaN(live) && Number.isNaN(training)
    return Math.abs(live - training) <= this.tolerance * Math.max(1, Math.abs(training))
  }
}

function orNull(value: number): number | null {
  return Number.isNaN(value) ? null : value
}
