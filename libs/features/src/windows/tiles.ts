import type { EntrySums, Gatherer, Reader } from './entries.ts'
import type { EntryColumns } from './entry-columns.ts'

/** Tiles that a group sums up again. */
const groupTiles = 64
const tileBytes = 150
const nobody: Reader = { origin: 0, lastOffset: Infinity }

interface Memory {
  bytes: number
}

/** What is known of a run of entries; each part is made when it is first asked for. */
class Tile {
  /** The index behind its last entry. */
  end: number
  private readonly memory: Memory
  /** By `Gatherer.slot`. */
  private readonly summaries: unknown[] = []
  private summaryBytes = 0
  /** Pairs: a partition that entries come from, and the largest offset among those. */
  private places: number[] | undefined

  /** @param memory is told what it takes */
  constructor(end: number, memory: Memory) {
    this.end = end
    this.memory = memory
    memory.bytes += tileBytes
  }

  remove(): void {
    this.forget()
    this.memory.bytes -= tileBytes
  }

  forget(): void {
    this.summaries.length = 0
    this.memory.bytes -= this.summaryBytes
    this.summaryBytes = 0
    this.places = undefined
  }

  /** The summary of the sort of `like`, made by `fill` where it is not known. */
  summary<G extends Gatherer<G>>(like: G, fill: (summary: G) => void): G {
    const known = this.summaries[like.slot] as G | undefined
    if (known !== undefined) return known
    const summary = like.fresh()
    fill(summary)
    this.summaries[like.slot] = summary
    this.summaryBytes += summary.bytes
    this.memory.bytes += summary.bytes
    return summary
  }

  /** Whether none of its entries lies behind the reader on its own partition. */
  isBefore({ origin, lastOffset }: Reader, entries: EntryColumns, start: number): boolean {
    this.places ??= placesOf(entries, start, this.end)
    const { places } = this
    for (let i = 0; i < places.length; i += 2) if (places[i] === origin) return places[i + 1]! <= lastOffset
    return true
  }
}

function placesOf({ origins, offsets }: EntryColumns, start: number, end: number): number[] {
  const places: number[] = []
  for (let i = start; i < end; i++) {
    let at = 0
    while (at < places.length && places[at] !== origins[i]) at += 2
    if (at === places.length) places.push(origins[i]!, offsets[i]!)
    else if (offsets[i]! > places[at + 1]!) places[at + 1] = offsets[i]!
  }
  return places
}

/**
 * Sums up runs of a key's older entries, so that a window over very many costs a walk over few: tiles of `size` consecutive entries, and groups of 64 tiles.
 * A window takes whole tiles from its middle and entries at its edges. A late entry makes its own tile (and group) unknown, and the others move on.
 */
export class Tiles implements EntrySums {
  private readonly entries: EntryColumns
  private readonly size: number
  private readonly tiles: Tile[] = []
  /** The group of tiles `64 g` to `64 g + 63`, where it is known. */
  private readonly groups: (Tile | undefined)[] = []
  private readonly memory: Memory = { bytes: 0 }

  constructor(entries: EntryColumns, size: number) {
    this.entries = entries
    this.size = size
  }

  /** What all of it takes: an estimate. */
  get bytes(): number {
    return this.memory.bytes
  }

  private get end(): number {
    return this.tiles.at(-1)?.end ?? 0
  }

  /** Gathers the entries from `from` (inclusive) to `to` (exclusive), but for those behind the reader. */
  gather<G extends Gatherer<G>>(into: G, from: number, to: number, reader: Reader): void {
    this.seal()
    if (from >= this.end) {
      into.addEntries(this.entries, from, to, -Infinity, reader)
      return
    }
    let tile = this.firstFrom(from)
    let at = Math.min(to, this.startOf(tile))
    into.addEntries(this.entries, from, at, -Infinity, reader)
    while (tile < this.tiles.length && this.tiles[tile]!.end <= to) {
      const group = this.groupAt(tile, to)
      if (group?.isBefore(reader, this.entries, at) === true) {
        into.addSummary(this.groupSummary(into, group, tile))
        tile += groupTiles
      } else this.gatherTile(into, tile++, reader)
      at = this.startOf(tile)
    }
    into.addEntries(this.entries, at, to, -Infinity, reader)
  }

  private gatherTile<G extends Gatherer<G>>(into: G, index: number, reader: Reader): void {
    const tile = this.tiles[index]!
    const start = this.startOf(index)
    if (into.summarisesTiles && tile.isBefore(reader, this.entries, start)) into.addSummary(this.tileSummary(into, index))
    else into.addEntries(this.entries, start, tile.end, -Infinity, reader)
  }

  private tileSummary<G extends Gatherer<G>>(like: G, index: number): G {
    const tile = this.tiles[index]!
    return tile.summary(like, (summary) => summary.addEntries(this.entries, this.startOf(index), tile.end, -Infinity, nobody))
  }

  private groupSummary<G extends Gatherer<G>>(like: G, group: Tile, first: number): G {
    return group.summary(like, (summary) => {
      if (like.summarisesTiles) for (let i = first; i < first + groupTiles; i++) summary.addSummary(this.tileSummary(like, i))
      else summary.addEntries(this.entries, this.startOf(first), group.end, -Infinity, nobody)
    })
  }

  /** The group that starts with this tile, where there is one that ends by `to`. */
  private groupAt(tile: number, to: number): Tile | undefined {
    const last = tile + groupTiles - 1
    if (tile % groupTiles !== 0 || last >= this.tiles.length || this.tiles[last]!.end > to) return undefined
    const group = (this.groups[tile / groupTiles] ??= new Tile(0, this.memory))
    group.end = this.tiles[last]!.end
    return group
  }

  private startOf(tile: number): number {
    return tile === 0 ? 0 : this.tiles[tile - 1]!.end
  }

  /** The first tile that starts at `index` or after it. */
  private firstFrom(index: number): number {
    const at = this.firstEndingAfter(index)
    return this.startOf(at) < index ? at + 1 : at
  }

  private firstEndingAfter(index: number): number {
    let low = 0
    let high = this.tiles.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.tiles[middle]!.end <= index) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Makes tiles of what is old enough: the newest entries, among which late ones come, stay by themselves. */
  private seal(): void {
    for (let end = this.end + this.size; end + this.size <= this.entries.count; end += this.size)
      this.tiles.push(new Tile(end, this.memory))
  }

  /** An entry has come to be at `at`. */
  inserted(at: number): void {
    if (at >= this.end) return
    const index = this.firstEndingAfter(at)
    for (let i = index; i < this.tiles.length; i++) this.tiles[i]!.end++
    const tile = this.tiles[index]!
    tile.forget()
    const start = this.startOf(index)
    if (tile.end - start > 2 * this.size) {
      this.tiles.splice(index, 0, new Tile(start + this.size, this.memory))
      for (const group of this.groups.splice(Math.floor(index / groupTiles))) group?.remove()
    } else this.groups[Math.floor(index / groupTiles)]?.forget()
  }

  /** How many entries, `limit` at most, may go from the front with whole tiles. */
  wholeUpTo(limit: number): number {
    if (limit >= this.end) return limit
    return this.startOf(this.firstEndingAfter(limit))
  }

  /** As many as `wholeUpTo` gave have gone from the front. */
  dropped(count: number): void {
    for (const tile of this.tiles.splice(0, this.firstEndingAfter(count - 1) + 1)) tile.remove()
    for (const tile of this.tiles) tile.end -= count
    for (const group of this.groups.splice(0)) group?.remove()
  }
}
