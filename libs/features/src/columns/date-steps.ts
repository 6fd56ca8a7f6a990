import { calendarPart, ZoneClock } from './calendar.ts'
import { anyFlag, type ColumnData, type ColumnKind, numbersIn } from './column-data.ts'
import type { DatePart } from './step-definition.ts'
import { type ColumnRun, type CompiledStep, needs, type StepCompilers, type StepContext } from './step.ts'

type PartName = Parameters<typeof calendarPart>[0]

/** Times beyond those of a Date have no calendar. */
const furthestMs = 8.64e15

function part(name: PartName): (setting: DatePart, from: ColumnKind, context: StepContext) => CompiledStep {
  return (setting, from, context) => {
    needs(from, ['timestamp'], context, name)
    const calendar = calendarPart(name)
    const { size, first } = calendar
    const clock = setting === true ? undefined : new ZoneClock(setting.zone)
    const valueOf = (timeMs: number): number => {
      if (!(Math.abs(timeMs) <= furthestMs)) return NaN
      return calendar.of(clock === undefined ? timeMs : clock.localMs(timeMs))
    }
    if (size === undefined) {
      const apply = (data: ColumnData): ColumnData => ({ kind: 'number', values: numbersIn(data).map(valueOf) })
      return { step: { kind: 'map', apply }, gives: { kind: 'number', whole: true } }
    }
    const apply = (data: ColumnData, run: ColumnRun): ColumnData => {
      const times = numbersIn(data)
      const values = run.scratch.indices()
      for (let row = 0; row < values.length; row++) {
        const value = valueOf(times[row]!)
        values[row] = Number.isNaN(value) ? -1 : value - first
      }
      return { kind: 'index', values, size, first }
    }
    return { step: { kind: 'map', apply }, gives: name === 'weekend' ? anyFlag : { kind: 'index', size, first } }
  }
}

export const dateSteps: StepCompilers<PartName | 'cycle'> = {
  minute: part('minute'),
  hour: part('hour'),
  weekday: part('weekday'),
  weekend: part('weekend'),
  day: part('day'),
  dayOfYear: part('dayOfYear'),
  month: part('month'),
  quarter: part('quarter'),
  year: part('year'),
  cycle(period, from, context) {
    needs(from, ['number', 'index'], context, 'cycle')
    const turn = (2 * Math.PI) / period
    const apply = (data: ColumnData): ColumnData => {
      const numbers = numbersIn(data)
      const values = new Float64Array(numbers.length * 2)
      for (let row = 0; row < numbers.length; row++) {
        values[row * 2] = Math.sin(numbers[row]! * turn)
        values[row * 2 + 1] = Math.cos(numbers[row]! * turn)
      }
      return { kind: 'vector', values, width: 2 }
    }
    return { step: { kind: 'map', apply }, gives: { kind: 'vector', elements: ['.sin', '.cos'] } }
  },
}
