import type { ColumnData, ColumnKind } from './column-data.ts'
import { type CompiledStep, needs, type StepCompilers, type StepContext } from './step.ts'
import { TextColumn } from './text-column.ts'

function eachText(name: string, from: ColumnKind, context: StepContext, change: (text: string) => string): CompiledStep {
  needs(from, ['text'], context, name)
  const apply = (data: ColumnData): ColumnData => ({ kind: 'text', values: TextColumn.of((data.values as TextColumn).strings.map(change)) })
  return { step: { kind: 'map', apply }, gives: { kind: 'text' } }
}

export const textSteps: StepCompilers<'trim' | 'lower' | 'upper' | 'replace'> = {
  trim: (_setting, from, context) => eachText('trim', from, context, (text) => text.trim()),
  lower: (_setting, from, context) => eachText('lower', from, context, (text) => text.toLowerCase()),
  upper: (_setting, from, context) => eachText('upper', from, context, (text) => text.toUpperCase()),
  replace(setting, from, context) {
    const pattern = new RegExp(setting.pattern, 'gu')
    return eachText('replace', from, context, (text) => text.replace(pattern, setting.with))
  },
}
