import { TextIndex } from '../batch/text-index.ts'
import type { ReadRows, WantedColumns } from '../tables/table-source.ts'
import { grow, VectorColumns } from './vector-columns.ts'

/** Columns by which rows of a log and of an export are the same row. */
export const rowKeyColumns: WantedColumns = { texts: ['id', 'topic'], numbers: ['partition', 'offset'] }

/** Where a row's event was read; undefined where the table does not say. */
export interface RowPosition {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export function positionOf({ texts, numbers }: ReadRows, row: number): RowPosition | undefined {
  const topic = texts.get('topic')?.[row] ?? ''
  const partition = numbers.get('partition')?.[row] ?? NaN
  const offset = numbers.get('offset')?.[row] ?? NaN
  return topic === '' || Number.isNaN(partition) || offset < 0 ? undefined : { topic, partition, offset }
}

const noRow = -1

/** The vectors of an export, by event id: 4 bytes a number, and about 50 and the id a row. */
export class TrainingIndex {
  readonly vectors: VectorColumns
  private readonly ids = new TextIndex()
  private readonly topics = new TextIndex()
  /** By id: the first row that has it. By row: the next row of the same id. */
  private first = new Int32Array(1024)
  private last = new Int32Array(1024)
  private next = new Int32Array(1024)
  private idOfRow = new Int32Array(1024)
  private topicOfRow = new Int32Array(1024)
  private partitions = new Int32Array(1024)
  private offsets = new Float64Array(1024)
  private seen = new Uint8Array(1024)
  private seenRows = 0

  constructor(features: readonly string[]) {
    this.vectors = new VectorColumns(features)
  }

  add(rows: ReadRows): void {
    const start = this.vectors.rowCount
    const end = start + rows.rowCount
    this.makeRoom(end)
    const ids = rows.texts.get('id')!
    for (let row = 0; row < rows.rowCount; row++) {
      const at = start + row
      const known = this.ids.size
      const id = this.ids.add(ids[row]!)
      this.idOfRow[at] = id
      this.next[at] = noRow
      if (id === known) {
        this.first = grow(this.first, id + 1)
        this.last = grow(this.last, id + 1)
        this.first[id] = at
      } else this.next[this.last[id]!] = at
      this.last[id] = at
      const position = positionOf(rows, row)
      this.topicOfRow[at] = position === undefined ? noRow : this.topics.add(position.topic)
      this.partitions[at] = position?.partition ?? 0
      this.offsets[at] = position?.offset ?? 0
    }
    this.vectors.append(
      this.vectors.names.map((name) => rows.numbers.get(name)!),
      rows.rowCount,
    )
  }

  /** The row of that id; of several the one at that position, else the first. -1 where there is none. */
  find(id: string, position: RowPosition | undefined): number {
    const number = this.ids.find(id)
    if (number < 0) return noRow
    const first = this.first[number]!
    if (position === undefined || this.next[first] === noRow) return first
    for (let row = first; row !== noRow; row = this.next[row]!) if (this.isAt(row, position)) return row
    return first
  }

  markSeen(row: number): void {
    if (this.seen[row] === 1) return
    this.seen[row] = 1
    this.seenRows++
  }

  get unseenRows(): number {
    return this.vectors.rowCount - this.seenRows
  }

  /** Ids of the first rows that were not seen. */
  unseenIds(limit: number): readonly string[] {
    const ids: string[] = []
    for (let row = 0; row < this.vectors.rowCount && ids.length < limit; row++)
      if (this.seen[row] === 0) ids.push(this.ids.text(this.idOfRow[row]!))
    return ids
  }

  private isAt(row: number, { topic, partition, offset }: RowPosition): boolean {
    return this.offsets[row] === offset && this.partitions[row] === partition && this.topicOfRow[row] === this.topics.find(topic)
  }

  private makeRoom(count: number): void {
    this.next = grow(this.next, count)
    this.idOfRow = grow(this.idOfRow, count)
    this.topicOfRow = grow(this.topicOfRow, count)
    this.partitions = grow(this.partitions, count)
    this.offsets = grow(this.offsets, count)
    if (count > this.seen.length) {
      const seen = new Uint8Array(Math.max(count, this.seen.length * 2))
      seen.set(this.seen)
      this.seen = seen
    }
  }
}
