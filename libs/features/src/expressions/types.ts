import type { parse } from '@bufbuild/cel'

export type Expr = ReturnType<typeof parse>['expr']
export type CallExpr = Extract<Expr['exprKind'], { case: 'callExpr' }>['value']

/** What an expression's parts are; a list of one of them is `list(string)`. */
type ScalarType = 'double' | 'int' | 'bool' | 'string'
export type ValueType = ScalarType | `list(${ScalarType})`

/** Says what is wrong with an expression, in words for its author. */
export class ExpressionError extends Error {}

type Overload = readonly [arguments: readonly ValueType[], result: ValueType]

function overloads(types: readonly ValueType[], of: (type: ValueType) => Overload): readonly Overload[] {
  return types.map(of)
}

const numeric = ['double', 'int'] as const
const scalars = ['double', 'int', 'bool', 'string'] as const
const arithmetic = overloads(numeric, (type) => [[type, type], type])
/** Numbers of both kinds compare with each other. */
const mixed: readonly Overload[] = [
  [['int', 'double'], 'bool'],
  [['double', 'int'], 'bool'],
]
const equality = [...overloads(scalars, (type) => [[type, type], 'bool']), ...mixed]
const order = equality
const textTest: readonly Overload[] = [[['string', 'string'], 'bool']]

/** Of the language's standard definitions (https://github.com/google/cel-spec/blob/master/doc/langdef.md), those on numbers, flags and text. */
const functions: Readonly<Record<string, readonly Overload[]>> = {
  '_+_': [...arithmetic, [['string', 'string'], 'string']],
  '_-_': arithmetic,
  '_*_': arithmetic,
  '_/_': arithmetic,
  '_%_': [[['int', 'int'], 'int']],
  '-_': overloads(numeric, (type) => [[type], type]),
  '!_': [[['bool'], 'bool']],
  '_&&_': [[['bool', 'bool'], 'bool']],
  '_||_': [[['bool', 'bool'], 'bool']],
  '_?_:_': overloads(scalars, (type) => [['bool', type, type], type]),
  '_==_': equality,
  '_!=_': equality,
  '_<_': order,
  '_<=_': order,
  '_>_': order,
  '_>=_': order,
  '@in': overloads(scalars, (type) => [[type, `list(${type as ScalarType})`], 'bool']),
  double: overloads(['double', 'int', 'string'], (type) => [[type], 'double']),
  int: overloads(['int', 'double', 'string'], (type) => [[type], 'int']),
  string: overloads(scalars, (type) => [[type], 'string']),
  size: [[['string'], 'int'], ...overloads(scalars, (type) => [[`list(${type as ScalarType})`], 'int'] as Overload)],
  contains: textTest,
  startsWith: textTest,
  endsWith: textTest,
  matches: textTest,
}

const symbols = /^_?([^_@]+)_$/

/** As it is written: `+` for `_+_`. */
function written(name: string): string {
  if (name === '@in') return 'in'
  return name === '_?_:_' ? '?:' : (symbols.exec(name)?.[1] ?? name)
}

function callable(): string {
  return Object.keys(functions)
    .filter((name) => /^[a-z]/i.test(name))
    .join(', ')
}

/** The arguments of a call, that which a method is called on first. */
export function argumentsOf(call: CallExpr): readonly Expr[] {
  return call.target === undefined ? call.args : [call.target, ...call.args]
}

/**
 * Type of an expression over names of known types.
 * @param nameType is asked for each name, and refuses those that it does not know
 * @throws ExpressionError
 */
export function typeOf(expr: Expr, nameType: (name: string) => ValueType): ValueType {
  const { exprKind } = expr
  switch (exprKind.case) {
    case 'constExpr':
      return constantType(exprKind.value.constantKind.case)
    case 'identExpr':
      return nameType(exprKind.value.name)
    case 'callExpr':
      return callType(exprKind.value, nameType)
    case 'listExpr': {
      const types = exprKind.value.elements.map((element) => typeOf(element, nameType))
      const [first] = types
      if (first === undefined || first.startsWith('list') || types.some((type) => type !== first))
        throw new ExpressionError('a list here holds constants of one type')
      return `list(${first as ScalarType})`
    }
    case 'selectExpr':
    case 'structExpr':
    case 'comprehensionExpr':
    case undefined:
    default:
      throw new ExpressionError('it takes numbers, flags, text and lists of these: no fields of messages, maps or macros')
  }
}

function constantType(kind: string | undefined): ValueType {
  const types: Readonly<Record<string, ValueType>> = {
    doubleValue: 'double',
    int64Value: 'int',
    boolValue: 'bool',
    stringValue: 'string',
  }
  const type = types[kind ?? '']
  if (type === undefined) throw new ExpressionError('constants here are numbers, true, false and text')
  return type
}

function callType(call: CallExpr, nameType: (name: string) => ValueType): ValueType {
  const known = Object.hasOwn(functions, call.function) ? functions[call.function]! : undefined
  if (known === undefined) throw new ExpressionError(`there is no function "${call.function}": choose among ${callable()}`)
  const given = argumentsOf(call).map((argument) => typeOf(argument, nameType))
  const match = known.find(([expected]) => expected.length === given.length && expected.every((type, index) => type === given[index]))
  if (match !== undefined) return match[1]
  const isMixed = given.includes('int') && given.includes('double')
  const hint = isMixed ? ': write whole numbers as 1.0, and turn an integer into a double with double(...)' : ''
  throw new ExpressionError(`"${written(call.function)}" does not take (${given.join(', ')})${hint}`)
}

/** Every name that the expression uses, once. */
export function namesIn(expr: Expr, found: Set<string> = new Set()): ReadonlySet<string> {
  const { exprKind } = expr
  if (exprKind.case === 'identExpr') found.add(exprKind.value.name)
  if (exprKind.case === 'callExpr') for (const argument of argumentsOf(exprKind.value)) namesIn(argument, found)
  if (exprKind.case === 'listExpr') for (const element of exprKind.value.elements) namesIn(element, found)
  return found
}
