import { celEnv, CelScalar, type CelInput, type CelValue, isCelError, parse, plan } from '@bufbuild/cel'
import { anyFlag, type ColumnData, type ColumnKind, kindName, numbersIn } from '../columns/column-data.ts'
import type { MadeSource, Operand } from '../columns/made.ts'
import type { ColumnRun } from '../columns/step.ts'
import { TextColumn } from '../columns/text-column.ts'
import { wrong } from '../refusal.ts'
import { columnar } from './columnar.ts'
import { type Expr, ExpressionError, namesIn, typeOf, type ValueType } from './types.ts'

const celTypes = { double: CelScalar.DOUBLE, int: CelScalar.INT, bool: CelScalar.BOOL, string: CelScalar.STRING } as const
type NameType = keyof typeof celTypes

function parsed(source: string, at: string): Expr {
  try {
    return parse(source).expr
  } catch (thrown) {
    throw wrong(at, (thrown as Error).message)
  }
}

/** Whole numbers and timestamps (ms since the epoch) are ints, flags bools, other numbers doubles. */
function nameTypeOf({ name, kind }: Operand): NameType {
  switch (kind.kind) {
    case 'text':
      return 'string'
    case 'timestamp':
      return 'int'
    case 'index':
      return kind.flag === true ? 'bool' : 'int'
    case 'number':
      return kind.whole ? 'int' : 'double'
    case 'vector':
    case 'flags':
    default:
      throw new ExpressionError(`"${name}" is a ${kindName(kind.kind)}, and an expression takes one value a row`)
  }
}

const resultKinds: Readonly<Record<NameType, ColumnKind>> = {
  double: { kind: 'number', whole: false },
  int: { kind: 'number', whole: true },
  bool: anyFlag,
  string: { kind: 'text' },
}

/**
 * An expression in the Common Expression Language over columns and fields. Where a number, flag or timestamp that it names is absent, so is its value
 * (absent text is ''). A row whose evaluation fails (an integer divided by 0) fails.
 * @param operand resolves a name, and refuses those that it does not know
 * @throws MeshError INVALID_ARGUMENT at `at`
 */
export function expressionSource(source: string, operand: (name: string) => Operand, column: string, at: string): MadeSource {
  const expr = parsed(source, at)
  const operands = [...namesIn(expr)].map(operand)
  try {
    const types = new Map(operands.map((of) => [of.name, nameTypeOf(of)]))
    const nameType = (name: string): ValueType => types.get(name)!
    const result = typeOf(expr, nameType)
    if (result.startsWith('list')) throw new ExpressionError('it gives a list, and a column has one value a row')
    const kind = resultKinds[result as NameType]
    const whole = columnar(expr, nameType)
    const make = whole === undefined ? perRow(expr, operands, types, { kind, column }) : overColumns(whole, operands, kind)
    return { kind, make }
  } catch (error) {
    if (error instanceof ExpressionError) throw wrong(at, error.message)
    throw error
  }
}

/** 1 where a number that the expression names is absent. */
function absences(operands: readonly Operand[], run: ColumnRun): Uint8Array {
  const absent = new Uint8Array(run.rowCount)
  for (const { index } of operands) {
    const data = run.column(index)
    if (data.kind === 'text') continue
    const values = numbersIn(data)
    for (let row = 0; row < absent.length; row++) if (Number.isNaN(values[row])) absent[row] = 1
  }
  return absent
}

function overColumns(whole: NonNullable<ReturnType<typeof columnar>>, operands: readonly Operand[], kind: ColumnKind): MadeSource['make'] {
  return (run) => {
    const columns = new Map(operands.map(({ name, index }) => [name, numbersIn(run.column(index))]))
    const result = whole(columns, run.rowCount)
    const absent = absences(operands, run)
    if (kind.kind === 'index') return flags(Int32Array.from(result, (value, row) => (absent[row] === 1 ? -1 : value)))
    return { kind: 'number', values: result.map((value, row) => (absent[row] === 1 ? NaN : value)) }
  }
}

function flags(values: Int32Array): ColumnData {
  return { kind: 'index', values, size: 2, first: 0 }
}

function perRow(
  expr: Expr,
  operands: readonly Operand[],
  types: ReadonlyMap<string, NameType>,
  { kind, column }: { readonly kind: ColumnKind; readonly column: string },
): MadeSource['make'] {
  const variables = Object.fromEntries([...types].map(([name, type]) => [name, celTypes[type]]))
  const evaluate = plan(celEnv({ variables }), expr)
  return (run) => {
    const absent = absences(operands, run)
    const inputs = operands.map(({ name, index }) => ({ name, valueAt: reader(run.column(index), types.get(name)!) }))
    const results = new Array<CelValue | undefined>(run.rowCount)
    const row: Record<string, CelInput> = {}
    for (let at = 0; at < run.rowCount; at++) {
      if (absent[at] === 1) continue
      for (const { name, valueAt } of inputs) row[name] = valueAt(at)
      const result = evaluate(row as never)
      if (isCelError(result)) run.fail(at, column, result.message)
      else results[at] = result
    }
    return collected(results, kind)
  }
}

function reader(data: ColumnData, type: NameType): (row: number) => CelInput {
  if (data.kind === 'text') {
    const { strings } = data.values
    return (row) => strings[row]!
  }
  const values = numbersIn(data)
  if (type === 'double') return (row) => values[row]!
  return type === 'bool' ? (row) => values[row] === 1 : (row) => BigInt(Math.trunc(values[row]!))
}

function collected(results: readonly (CelValue | undefined)[], kind: ColumnKind): ColumnData {
  if (kind.kind === 'text') return { kind: 'text', values: TextColumn.of(results.map((value) => (value ?? '') as string)) }
  if (kind.kind === 'index') return flags(Int32Array.from(results, (value) => (value === undefined ? -1 : Number(value))))
  return { kind: 'number', values: Float64Array.from(results, (value) => (value === undefined ? NaN : Number(value))) }
}
