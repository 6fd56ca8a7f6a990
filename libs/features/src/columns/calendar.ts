/** Days, and parts of a day, of a time in ms since the epoch. */
const dayMs = 86_400_000
/** 1 January 1970 was a Thursday: 3 where Monday is 0. */
const epochWeekday = 3

function modulo(value: number, divisor: number): number {
  const rest = value % divisor
  return rest < 0 ? rest + divisor : rest
}

interface CivilDate {
  year: number
  /** 1 to 12 */
  month: number
  /** 1 to 31 */
  day: number
}

/** The proleptic Gregorian date of a day since the epoch: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days. */
function civilDate(day: number, into: CivilDate): void {
  const z = day + 719_468
  const era = Math.floor(z / 146_097)
  const ofEra = z - era * 146_097
  const yearOfEra = Math.floor((ofEra - Math.floor(ofEra / 1460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365)
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shifted = Math.floor((5 * ofYear + 2) / 153)
  into.day = ofYear - Math.floor((153 * shifted + 2) / 5) + 1
  into.month = shifted < 10 ? shifted + 3 : shifted - 9
  into.year = yearOfEra + era * 400 + (into.month <= 2 ? 1 : 0)
}

function isLeap(year: number): boolean {
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
}

const daysBefore = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334] as const

/** A part of a local time in ms, from its first value: 0-based but where a calendar counts from 1. */
export interface CalendarPart {
  /** Number of categories; undefined where it is open-ended. */
  readonly size: number | undefined
  readonly first: number
  of(localMs: number): number
}

function ofDate(take: (date: CivilDate) => number): (localMs: number) => number {
  const date: CivilDate = { year: 0, month: 0, day: 0 }
  return (localMs) => {
    civilDate(Math.floor(localMs / dayMs), date)
    return take(date)
  }
}

function weekday(localMs: number): number {
  return modulo(Math.floor(localMs / dayMs) + epochWeekday, 7)
}

/** Fresh, since those of a date keep it between two calls. */
export function calendarPart(
  name: 'minute' | 'hour' | 'weekday' | 'weekend' | 'day' | 'dayOfYear' | 'month' | 'quarter' | 'year',
): CalendarPart {
  switch (name) {
    case 'minute':
      return { size: 60, first: 0, of: (localMs) => Math.floor(modulo(localMs, 3_600_000) / 60_000) }
    case 'hour':
      return { size: 24, first: 0, of: (localMs) => Math.floor(modulo(localMs, dayMs) / 3_600_000) }
    case 'weekday':
      return { size: 7, first: 0, of: weekday }
    case 'weekend':
      return { size: 2, first: 0, of: (localMs) => (weekday(localMs) >= 5 ? 1 : 0) }
    case 'day':
      return { size: 31, first: 1, of: ofDate(({ day }) => day) }
    case 'dayOfYear':
      return {
        size: 366,
        first: 1,
        of: ofDate(({ year, month, day }) => daysBefore[month - 1]! + day + (month > 2 && isLeap(year) ? 1 : 0)),
      }
    case 'month':
      return { size: 12, first: 1, of: ofDate(({ month }) => month) }
    case 'quarter':
      return { size: 4, first: 1, of: ofDate(({ month }) => Math.ceil(month / 3)) }
    case 'year':
      return { size: undefined, first: 0, of: ofDate(({ year }) => year) }
    default:
      return name satisfies never
  }
}

/** Offsets change at quarters of an hour: all zones have, since 1972. */
const quarterHourMs = 900_000
/** A year's quarters of an hour; then the cache starts over. */
const mostOffsets = 35_136

/** Local times of one zone, by the runtime's time zone data, which are asked once a quarter of an hour of event time. */
export class ZoneClock {
  private readonly format: Intl.DateTimeFormat
  private readonly offsets = new Map<number, number>()
  private lastQuarter = NaN
  private lastOffsetMs = 0

  constructor(zone: string) {
    this.format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      era: 'short',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
  }

  /** What the zone's clocks show, as ms since the epoch of a clock that shows it in UTC. */
  localMs(timeMs: number): number {
    const quarter = Math.floor(timeMs / quarterHourMs)
    if (quarter !== this.lastQuarter) {
      this.lastOffsetMs = this.offsetMs(quarter)
      this.lastQuarter = quarter
    }
    return timeMs + this.lastOffsetMs
  }

  private offsetMs(quarter: number): number {
    const known = this.offsets.get(quarter)
    if (known !== undefined) return known
    const timeMs = quarter * quarterHourMs
    const parts: Record<string, number> = {}
    let beforeChrist = false
    for (const { type, value } of this.format.formatToParts(timeMs))
      if (type === 'era') beforeChrist = value === 'BC'
      else parts[type] = Number(value)
    const local = new Date(0)
    local.setUTCFullYear(beforeChrist ? 1 - parts['year']! : parts['year']!, parts['month']! - 1, parts['day'])
    local.setUTCHours(parts['hour']!, parts['minute'], parts['second'])
    const offsetMs = local.getTime() - timeMs
    if (this.offsets.size >= mostOffsets) this.offsets.clear()
    this.offsets.set(quarter, offsetMs)
    return offsetMs
  }
}
