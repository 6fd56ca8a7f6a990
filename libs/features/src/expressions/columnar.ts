import { argumentsOf, type CallExpr, type Expr, typeOf, type ValueType } from './types.ts'

/** A part of an expression over whole columns: numbers, and flags as 0 and 1, a value a row. */
type Part = (columns: ReadonlyMap<string, Float64Array>, rowCount: number) => Float64Array

type Binary = (a: Float64Array, b: Float64Array, to: Float64Array) => void

/** A loop each, so that the runtime compiles each for itself. */
const binaries: Readonly<Record<string, Binary>> = {
  '_+_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! + b[i]!
  },
  '_-_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! - b[i]!
  },
  '_*_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! * b[i]!
  },
  '_/_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! / b[i]!
  },
  '_==_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i] === b[i] ? 1 : 0
  },
  '_!=_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i] === b[i] ? 0 : 1
  },
  '_<_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! < b[i]! ? 1 : 0
  },
  '_<=_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! <= b[i]! ? 1 : 0
  },
  '_>_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! > b[i]! ? 1 : 0
  },
  '_>=_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! >= b[i]! ? 1 : 0
  },
  '_&&_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! * b[i]!
  },
  '_||_': (a, b, to) => {
    for (let i = 0; i < to.length; i++) to[i] = a[i]! + b[i]! > 0 ? 1 : 0
  },
}

const arithmetic: ReadonlySet<string> = new Set(['_+_', '_-_', '_*_', '_/_', '-_'])

/**
 * The expression over whole columns at once, where that gives what the evaluator gives: doubles and flags, which have no errors, and integers that are
 * only compared or turned into doubles (their arithmetic checks for overflow). Undefined for any other.
 */
export function columnar(expr: Expr, nameType: (name: string) => ValueType): Part | undefined {
  const { exprKind } = expr
  if (exprKind.case === 'identExpr') {
    const { name } = exprKind.value
    return nameType(name) === 'string' ? undefined : (columns) => columns.get(name)!
  }
  if (exprKind.case === 'constExpr') return constant(exprKind.value.constantKind)
  if (exprKind.case !== 'callExpr') return undefined
  const call = exprKind.value
  if (arithmetic.has(call.function) && typeOf(expr, nameType) !== 'double') return undefined
  const parts = argumentsOf(call).map((argument) => columnar(argument, nameType))
  return parts.includes(undefined) ? undefined : combined(call, parts as readonly Part[])
}

function constant(kind: { readonly case: string | undefined; readonly value?: unknown }): Part | undefined {
  if (kind.case === 'int64Value' && !Number.isSafeInteger(Number(kind.value))) return undefined
  if (!['doubleValue', 'boolValue', 'int64Value'].includes(kind.case ?? '')) return undefined
  const number = Number(kind.value)
  let filled = new Float64Array(0)
  return (_columns, rowCount) => {
    if (filled.length < rowCount) filled = new Float64Array(rowCount).fill(number)
    return filled.length === rowCount ? filled : filled.subarray(0, rowCount)
  }
}

function combined(call: CallExpr, parts: readonly Part[]): Part | undefined {
  const [first, second, third] = parts
  const binary = binaries[call.function]
  if (binary !== undefined)
    return (columns, rowCount) => {
      const to = new Float64Array(rowCount)
      binary(first!(columns, rowCount), second!(columns, rowCount), to)
      return to
    }
  switch (call.function) {
    case 'double':
      return first
    case '-_':
      return (columns, rowCount) => first!(columns, rowCount).map((value) => -value)
    case '!_':
      return (columns, rowCount) => first!(columns, rowCount).map((value) => 1 - value)
    case '_?_:_':
      return (columns, rowCount) => {
        const [condition, yes, no] = [first!, second!, third!].map((part) => part(columns, rowCount)) as [
          Float64Array,
          Float64Array,
          Float64Array,
        ]
        return condition.map((holds, row) => (holds === 1 ? yes[row]! : no[row]!))
      }
    default:
      return undefined
  }
}
