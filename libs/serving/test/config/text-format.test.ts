import { MeshError } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ConfigMessage, ConfigValue } from '../../src/config/config-tree.ts'
import { parseTextFormat } from '../../src/config/text-format.ts'

/** As `[name, value]` pairs: strings quoted, messages as pairs again. */
type Plain = readonly (readonly [string, string | Plain])[]

function plain({ fields }: ConfigMessage): Plain {
  return fields.map(({ name, value }) => [name, plainValue(value)])
}

function plainValue(value: ConfigValue): string | Plain {
  if (value.kind === 'message') return plain(value)
  return value.kind === 'text' ? JSON.stringify(value.text) : value.text
}

const parsed = (text: string): Plain => plain(parseTextFormat(text).root)

function refusal(text: string): string {
  try {
    parseTextFormat(text)
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    return (error as MeshError).message
  }
  return expect.unreachable(`${text} should have been refused`)
}

describe('protobuf text format is read', () => {
  it.each<[string, string, Plain]>([
    ['nothing', ' \n# a comment', []],
    [
      'scalars',
      'a: 1 b: -2.5e3 c: "x" d: TRUE_ISH',
      [
        ['a', '1'],
        ['b', '-2.5e3'],
        ['c', '"x"'],
        ['d', 'TRUE_ISH'],
      ],
    ],
    [
      'separators',
      'a: 1, b: 2; c: 3\nd: 4',
      [
        ['a', '1'],
        ['b', '2'],
        ['c', '3'],
        ['d', '4'],
      ],
    ],
    [
      'messages with and without a colon',
      'm { a: 1 } n: { } o < a: 2 >',
      [
        ['m', [['a', '1']]],
        ['n', []],
        ['o', [['a', '2']]],
      ],
    ],
    [
      'lists',
      'a: [1, 2] b: [] m: [{ a: 1 }, < a: 2 >] m [{ }]',
      [
        ['a', '1'],
        ['a', '2'],
        ['m', [['a', '1']]],
        ['m', [['a', '2']]],
        ['m', []],
      ],
    ],
    ['strings in a row', `a: "x" 'y'\n"z"`, [['a', '"xyz"']]],
    ['escapes', String.raw`a: "\n\t\"\'\\\x41\101\u00e9\U0001f600"`, [['a', JSON.stringify('\n\t"\'\\AAé😀')]]],
    ['bytes that are UTF-8 together', String.raw`a: "\xc3" "\xa9"`, [['a', '"é"']]],
    [
      'numbers of other bases',
      'a: 0x1F b: 017 c: - 5 d: 1.5f e: -inf',
      [
        ['a', '0x1F'],
        ['b', '017'],
        ['c', '-5'],
        ['d', '1.5f'],
        ['e', '-inf'],
      ],
    ],
    ['comments between', 'a: # one\n 1 # two', [['a', '1']]],
  ])('%s', (_name, text, expected) => {
    expect(parsed(text)).toEqual(expected)
  })
})

describe('what is malformed is refused with its place', () => {
  it.each([
    ['a: 1\nb', 'line 2, column 2: expected ":" or "{" after "b", found the end'],
    ['a 1', 'line 1, column 3: expected ":" or "{" after "a", found "1"'],
    ['a:\n  }', 'line 2, column 3: expected a value for "a", found "}"'],
    ['m {\n a: 1\n', 'line 3, column 1: expected the name of a field, or "}", found the end'],
    ['m { a: 1 >', 'line 1, column 10: expected the name of a field, or "}", found ">"'],
    ['a: "x\n"', 'line 1, column 4: the string has no end on its line'],
    ['a: "x', 'line 1, column 4: the string has no end on its line'],
    [String.raw`a: "\q"`, String.raw`line 1, column 5: \q is no escape`],
    [String.raw`a: "\ud800"`, String.raw`line 1, column 5: \ud800 is no character`],
    [String.raw`a: "\xff"`, 'line 1, column 4: the string is not UTF-8'],
    ['a: 12abc', 'line 1, column 4: 12a is no number'],
    ['a: -x', 'line 1, column 5: expected a number after "-", found "x"'],
    ['a: [1 2]', 'line 1, column 7: expected "," or "]", found "2"'],
    ['a: [1,', 'line 1, column 7: expected a value for "a", found the end'],
    ['[x.y]: 1', 'line 1, column 1: extensions and Any are not supported: expected the name of a field'],
    ['{ "a": 1 }', 'line 1, column 1: expected the name of a field, found "{"'],
    ['}', 'line 1, column 1: expected the name of a field, found "}"'],
  ])('%j', (text, message) => {
    expect(refusal(text)).toBe(message)
  })

  it('where it lies too deep, or is too long', () => {
    expect(refusal('m{'.repeat(10_000))).toMatch(/more than 64 deep/)
    expect(refusal(' '.repeat(5_000_000))).toMatch(/has 5000000 characters: at most/)
  })
})

it('reads back what it is given, whatever the strings', () => {
  const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,8}$/)
  const text = fc.string({ unit: 'grapheme' }).filter((value) => value.isWellFormed())
  const quoted = (value: string): string => `"${[...Buffer.from(value)].map((byte) => `\\x${byte.toString(16)}" "`).join('')}"`
  const { message } = fc.letrec<{ message: [string, string | Plain][] }>((tie) => ({
    message: fc.array(fc.tuple(name, fc.oneof({ depthSize: 'small' }, text, tie('message') as fc.Arbitrary<Plain>)), { maxLength: 4 }),
  }))
  const written = (fields: Plain): string =>
    fields.map(([field, value]) => (typeof value === 'string' ? `${field}: ${quoted(value)}` : `${field} {\n${written(value)}}`)).join('\n')
  const asRead = (fields: Plain): Plain =>
    fields.map(([field, value]) => [field, typeof value === 'string' ? JSON.stringify(value) : asRead(value)])
  fc.assert(
    fc.property(message, (fields) => {
      expect(parsed(written(fields))).toEqual(asRead(fields))
    }),
    { numRuns: 200 },
  )
})
