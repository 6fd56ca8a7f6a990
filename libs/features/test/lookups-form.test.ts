import { describe, expect, test } from 'vitest'
import { featuresSchema } from '../src/mod.ts'
import { plan } from './fixture.ts'
import { merchants, risk } from './lookups-fixture.ts'

describe('A reference that leads nowhere is refused, with its path and what would be right', () => {
  const lookups = {
    merchants,
    timed: { ...merchants, time: 'at' },
    far: { ...merchants, key: 'terminal' },
    odd: { ...merchants, key: 'amount' },
  }
  test.each([
    ['unknown lookup', { ...risk, lookup: 'merchant' }, 'columns.a.lookup', /choose among merchants, timed, far, odd/],
    ['unknown value', { ...risk, of: 'risks' }, 'columns.a.of', /no value "risks": choose among risk, category/],
    ['key that no field is', { ...risk, lookup: 'far' }, 'columns.a.lookup', /goes by "terminal", and input "payments" has no such field/],
    ['key that is a number', { ...risk, lookup: 'odd' }, 'columns.a.lookup', /"amount", which is a number/],
    [
      'default of the wrong type',
      { ...risk, default: 'low' },
      'columns.a.default',
      /"low" does not stand for a looked-up number: give a number/,
    ],
    ['text default', { lookup: 'merchants', of: 'category', default: 0, steps: [{ oneHot: ['x'] }] }, 'columns.a.default', /give text/],
    ['unknown field', { ...risk, field: 'amuont' }, 'columns.a.field', /no field "amuont"/],
    ['field of another type', { ...risk, field: 'channel' }, 'columns.a.field', /"channel" is a string, and stands for a looked-up number/],
    ['age without time', { ...risk, maxAge: '1d' }, 'columns.a.maxAge', /give it "time"/],
    ['text as a number', { lookup: 'merchants', of: 'category' }, 'columns.a', /only oneHot|string/],
  ] as const)('%s', (_name, column, field, message) => {
    expect(() => plan({ lookups, columns: { a: column }, vector: ['a'] })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', field, message: expect.stringMatching(message) as string }) as Error,
    )
  })

  test.each([
    [{ redis: 'profile' }, 'lookups.l.redis', /must hold \{key\} where the key goes|must hold \{shop\}/],
    [{ redis: 'profile:{key}:{zone}' }, 'lookups.l.redis', /no other placeholder/],
    [{ redis: 'p:{key}', key: ['shop', 'customer'] }, 'lookups.l.redis', /write \{shop\} and \{customer\} instead of \{key\}/],
    [{ file: 't.csv', values: { shop: 'integer' } }, 'lookups.l.values.shop', /is the key/],
  ] as const)('%j', (lookup, field, message) => {
    const l = { key: 'shop', values: { n: 'integer' }, ...lookup }
    const columns = { a: { lookup: 'l', of: Object.keys(l.values)[0] } }
    expect(() => plan({ lookups: { l }, columns, vector: ['a'] })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', field, message: expect.stringMatching(message) as string }) as Error,
    )
  })
})

describe('The form of the section', () => {
  function issues(lookup: unknown, column: unknown = { lookup: 'l', of: 'n' }): readonly string[] {
    const { error } = featuresSchema.safeParse({ lookups: { l: lookup }, columns: { a: column }, vector: ['a'] })
    return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
  }
  const good = { file: 't.csv', key: 'shop', values: { n: 'integer' } }
  test.each([
    ['no place', { key: 'shop', values: { n: 'integer' } }, 'lookups.l: give exactly one of "file", "table" and "redis"'],
    ['two places', { ...good, redis: 'x:{key}' }, 'lookups.l: give exactly one of'],
    ['no table', { ...good, file: undefined, table: './scores.db' }, 'lookups.l.table: write <SQLite file>#<table>'],
    ['no values', { ...good, values: {} }, 'lookups.l.values: name at least one value'],
    ['a type that there is not', { ...good, values: { n: 'float' } }, 'lookups.l.values.n: choose string, number'],
    ['an age without a time', { ...good, maxAge: '1d' }, 'lookups.l.maxAge: an age needs "time"'],
    ['no age', { ...good, time: 'at', maxAge: '0d' }, 'lookups.l.maxAge: it must be longer than nothing'],
    ['versions without a time', { ...good, versions: true }, 'lookups.l.versions: versions need "time"'],
    ['a server for a file', { ...good, url: 'redis://localhost' }, 'lookups.l.url: "url" is that of a Redis server'],
    ['refresh of a table', { ...good, file: undefined, table: 'a.db#b', refresh: '1m' }, 'lookups.l.refresh: only a file is read again'],
  ] as const)('%s', (_name, lookup, expected) => {
    expect(issues(lookup)).toEqual([expect.stringContaining(expected)])
  })

  test.each([
    ['no value', { lookup: 'l' }, 'columns.a.of: a look-up needs "of"'],
    ['two sources', { lookup: 'l', of: 'n', column: 'b' }, 'columns.a: give exactly one of'],
    ['a default of nothing', { field: 'x', default: 1 }, 'columns.a.default: "default" belongs to a look-up'],
  ] as const)('%s', (_name, column, expected) => {
    expect(issues(good, column)).toEqual([expect.stringContaining(expected)])
  })
})
