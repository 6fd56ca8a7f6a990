import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

/** A day's transactions, in columns and in their order. */
export interface Day {
  readonly name: string
  readonly ids: Float64Array
  readonly timesMs: Float64Array
  readonly customers: Float64Array
  readonly terminals: Float64Array
  readonly amounts: Float64Array
  readonly frauds: Uint8Array
}

/** A sibling folder of the repository holds the data where nothing else is said. */
export function handbookFolder(): string {
  return process.env['SPILLWAY_HANDBOOK'] ?? join(import.meta.dirname, '../../../shared/data/handbook')
}

export function handbookDays(folder: string): readonly string[] {
  const days = join(folder, 'transactions')
  return existsSync(days)
    ? readdirSync(days)
        .filter((file) => file.endsWith('.csv.gz'))
        .map((file) => file.slice(0, 10))
        .sort()
    : []
}

/** The longest window and delay are 37 days: what lies before counts for nothing. */
const historyDays = 38
/** The reference has every day from here on, and two before. */
const everyDayAfter = '2018-07-24'

/** The reference's last three weeks, and the days that their windows go back to. */
export function recentDays(folder: string): readonly string[] {
  const all = handbookDays(folder)
  const first = all.findIndex((day) => day > everyDayAfter && hasReference(folder, day))
  return first === -1 ? [] : all.slice(Math.max(0, first - historyDays))
}

/** Whether the reference has features of the day's transactions. */
export function hasReference(folder: string, name: string): boolean {
  return existsSync(referenceFile(folder, name))
}

function referenceFile(folder: string, name: string): string {
  return join(folder, 'features', `${name}.csv.gz`)
}

function csvLines(file: string): string[] {
  const lines = gunzipSync(readFileSync(file)).toString('latin1').trimEnd().split('\n')
  lines.shift()
  return lines
}

/** TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD,TX_FRAUD_SCENARIO */
export function readDay(folder: string, name: string): Day {
  const lines = csvLines(join(folder, 'transactions', `${name}.csv.gz`))
  const count = lines.length
  const floats = (): Float64Array => new Float64Array(count)
  const day = {
    name,
    ids: floats(),
    timesMs: floats(),
    customers: floats(),
    terminals: floats(),
    amounts: floats(),
    frauds: new Uint8Array(count),
  }
  const midnightMs = Date.parse(`${name}T00:00:00Z`)
  lines.forEach((line, row) => {
    const [id, time, customer, terminal, amount, fraud] = line.split(',')
    if (!time!.startsWith(name)) throw new Error(`${name}: transaction ${id} is of ${time}`)
    day.ids[row] = Number(id)
    day.timesMs[row] =
      midnightMs + (Number(time!.slice(11, 13)) * 3600 + Number(time!.slice(14, 16)) * 60 + Number(time!.slice(17, 19))) * 1000
    day.customers[row] = Number(customer)
    day.terminals[row] = Number(terminal)
    day.amounts[row] = Number(amount)
    day.frauds[row] = Number(fraud)
  })
  return day
}

/** The day's reference features by transaction, without the amount: weekend, night, customer count and mean, terminal count and share; undefined where the day has none. */
export function readReference(folder: string, name: string): ReadonlyMap<number, readonly number[]> | undefined {
  if (!hasReference(folder, name)) return undefined
  return new Map(
    csvLines(referenceFile(folder, name)).map((line) => {
      const [id, ...features] = line.split(',').map(Number)
      return [id!, features]
    }),
  )
}
