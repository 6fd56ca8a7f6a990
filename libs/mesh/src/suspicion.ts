/** Rows of what lies at a position, counted from there: from the first, inclusive, to the second, exclusive. */
export type RowRange = readonly [from: number, to: number]

/** What is known of the processes that ended while they handled the rows at a position. */
export interface Suspicion {
  /** Processes that ended over these rows since the last culprit was found. */
  readonly deaths: number
  /** What the last of them was trying; absent where nothing is known. */
  readonly range?: RowRange
  /** How many of them in a row were trying the one row that `range` is. */
  readonly alone: number
  /** Rows that are not tried again. */
  readonly culprits: readonly RowRange[]
}

/** As it is kept with the position: who kept it, and what it was trying, if anything. */
interface Note extends Suspicion {
  readonly by: string
  readonly trying?: RowRange
}

const unsuspected: Suspicion = { deaths: 0, alone: 0, culprits: [] }

/** Parts into which what a process died over is cut: with 16, three deaths find one row among 4,096. */
const ways = 16
/** One death alone may be an accident: a row is a culprit by the second over it alone, and the third over rows that it was among. */
const culpritAlone = 2
const culpritDeaths = 3
/** As many as a note has room for; past them whatever a process died over is given up as it is. */
const maxCulprits = 40

export function noteOf(by: string, suspicion: Suspicion, trying?: RowRange): string {
  const note: Note = { by, ...suspicion, ...(trying && { trying }) }
  return JSON.stringify(note)
}

/** What a note says to the process `self`: what somebody else was trying when his word ended, he died of. */
export function suspicionOf(text: string | undefined, self: string): Suspicion {
  const note = text === undefined ? undefined : parsed(text)
  if (note === undefined) return unsuspected
  const { by, trying, ...known } = note
  return trying === undefined || by === self ? known : afterDeath(known, trying)
}

function afterDeath({ deaths, range, alone, culprits }: Suspicion, trying: RowRange): Suspicion {
  const same = range !== undefined && range[0] === trying[0] && range[1] === trying[1]
  const next = { deaths: deaths + 1, range: trying, alone: trying[1] - trying[0] > 1 ? 0 : same ? alone + 1 : 1, culprits }
  const found = (next.alone >= culpritAlone && next.deaths >= culpritDeaths) || culprits.length >= maxCulprits
  return found ? { deaths: 0, alone: 0, culprits: [...culprits, trying] } : next
}

/** The parts in which rows are tried, in their order; culprits are to be left out of them. */
export function partsOf({ range }: Suspicion, [first, end]: RowRange): readonly RowRange[] {
  const [from, to] = (range ?? [first, first]).map((row) => Math.min(Math.max(row, first), end)) as [number, number]
  const parts: RowRange[] = [[first, from], ...split([from, to]), [to, end]]
  return parts.filter(([start, stop]) => stop > start)
}

/** Up to 16 parts of like size. */
export function split([from, to]: RowRange): readonly RowRange[] {
  const count = Math.min(ways, to - from)
  const cut = (part: number): number => from + Math.round(((to - from) * part) / count)
  return Array.from({ length: count }, (_, part): RowRange => [cut(part), cut(part + 1)])
}

export function isIn(ranges: readonly RowRange[], row: number): boolean {
  return ranges.some(([from, to]) => row >= from && row < to)
}

/** Undefined for another version's word: what it says is not known. */
function parsed(text: string): Note | undefined {
  try {
    const note = JSON.parse(text) as Note
    return typeof note.by === 'string' && Number.isInteger(note.deaths) && Array.isArray(note.culprits) ? note : undefined
  } catch {
    return undefined
  }
}
