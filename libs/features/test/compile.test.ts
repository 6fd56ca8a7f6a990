import { MeshError } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { compileFeatures, featuresSchema } from '../src/mod.ts'
import { dayMs, inputs, plan } from './fixture.ts'

const histories = {
  customer: { input: 'payments', key: 'customer', values: ['amount'] },
  shop: { input: 'labels', key: 'shop', values: ['fraud'] },
  shopPayments: { input: 'payments', key: 'shop', values: ['amount'] },
}

function refusal(
  columns: Record<string, unknown>,
  more: Record<string, unknown> = {},
): { field: string | undefined; message: string; code: string } {
  try {
    plan({ histories, columns, vector: Object.keys(columns), ...more })
  } catch (thrown) {
    if (thrown instanceof MeshError) return { field: thrown.field, message: thrown.message, code: thrown.code }
    throw thrown
  }
  throw new Error('it was accepted')
}

describe('A reference that leads nowhere is refused, with its path and what would be right', () => {
  const count = { window: 'count', history: 'customer', length: '1d' }
  test.each([
    ['unknown field', { a: { field: 'amuont' } }, 'columns.a.field', /no field "amuont": choose among customer, shop, amount/],
    ['unknown column', { a: { column: 'b' } }, 'columns.a.column', /no column is called "b"/],
    ['cycle', { a: { column: 'b' }, b: { column: 'c' }, c: { column: 'a' } }, 'columns.c.column', /a → b → c → a/],
    ['unknown history', { a: { ...count, history: 'clients' } }, 'columns.a.history', /choose among customer, shop, shopPayments/],
    ['value not kept', { a: { ...count, window: 'mean', of: 'fee' } }, 'columns.a.of', /keeps no value "fee": choose among amount/],
    [
      'not the partition key',
      { a: { ...count, history: 'shopPayments' } },
      'columns.a.delay',
      /give the window a delay, or accept that with "approximate: true"/,
    ],
    ['another input without delay', { a: { ...count, history: 'shop' } }, 'columns.a.delay', /other partitions/],
    ['share of a number', { a: { ...count, window: 'share', of: 'amount' } }, 'columns.a.of', /window: mean/],
    [
      'text as a number',
      { a: { field: 'channel' } },
      'columns.a',
      /ends as a string, not a number: make a number of it first, by vocabulary/,
    ],
    ['log of text', { a: { field: 'channel', steps: ['log'] } }, 'columns.a.steps[0]', /log is made from a number/],
    ['hour of a number', { a: { field: 'amount', steps: ['hour'] } }, 'columns.a.steps[0]', /hour is made from a timestamp/],
    ['bare timestamp', { a: { field: 'at' } }, 'columns.a', /take its hour, weekday or another part first/],
    ['steps after oneHot', { a: { field: 'channel', steps: [{ oneHot: ['web'] }, 'log'] } }, 'columns.a.steps[0]', /only be the last/],
    [
      'text matched with a number',
      { a: { field: 'amount', steps: [{ oneHot: ['web'] }] } },
      'columns.a.steps[0].oneHot[0]',
      /"web" is text/,
    ],
    ['a field by the same name', { amount: { field: 'shop' } }, 'columns.amount', /another name/],
  ] as const)('%s', (_name, columns, field, message) => {
    expect(refusal(columns)).toMatchObject({ code: 'INVALID_ARGUMENT', field, message: expect.stringMatching(message) as string })
  })

  test('the vector and histories', () => {
    const columns = { a: count }
    expect(refusal(columns, { vector: ['b'] })).toMatchObject({
      field: 'vector[0]',
      message: expect.stringContaining('choose among a, customer') as string,
    })
    expect(refusal(columns, { vector: ['a', 'at'] })).toMatchObject({ field: 'vector[1]' })
    const wrongInput = { histories: { customer: { input: 'pay', key: 'customer', values: [] } } }
    expect(refusal(columns, wrongInput)).toMatchObject({ field: 'histories.customer.input' })
    expect(refusal(columns, { histories: { customer: { input: 'payments', key: 'amount' } } })).toMatchObject({
      field: 'histories.customer.key',
    })
    expect(refusal(columns, { histories: { customer: { input: 'payments', key: 'customer', values: ['at'] } } })).toMatchObject({
      field: 'histories.customer.values[0]',
    })
  })
})

function issues(column: unknown): readonly string[] {
  const { error } = featuresSchema.safeParse({ columns: { a: column }, vector: ['a'] })
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

describe('The form of the section', () => {
  test.each([
    [
      'no source',
      {},
      'columns.a: give exactly one of "field", "column", "window", "lookup", "cross", "polynomial", "expression" and "module"',
    ],
    ['two sources', { field: 'x', column: 'y' }, 'columns.a: give exactly one of'],
    ['no history', { window: 'count', length: '1d' }, 'columns.a.history: say which history'],
    ['no length', { window: 'count', history: 'h' }, 'columns.a.length: say how far back'],
    ['no value', { window: 'mean', history: 'h', length: '1d' }, 'columns.a.of: a mean needs "of"'],
    ['bad duration', { window: 'count', history: 'h', length: '1 day' }, 'columns.a.length: "1 day" is no duration'],
    ['nothing long', { window: 'count', history: 'h', length: '0d' }, 'columns.a.length: a window is longer than nothing'],
    ['a window setting elsewhere', { field: 'x', delay: '1d' }, 'columns.a.delay: "delay" belongs to a window'],
    ['unknown step', { field: 'x', steps: ['sqrt'] }, 'columns.a.steps.0: no step is called sqrt: choose among trim, lower'],
    ['two in one step', { field: 'x', steps: [{ impute: 1, clip: [0, 1] }] }, 'columns.a.steps.0: a step does one thing'],
    ['clip upside down', { field: 'x', steps: [{ clip: [2, 1] }] }, 'columns.a.steps.0.clip: the lowest must not be above'],
    [
      'deviation 0',
      { field: 'x', steps: [{ standardise: { mean: 0, deviation: 0 } }] },
      'columns.a.steps.0.standardise.deviation: a deviation is above 0',
    ],
    ['edges down', { field: 'x', steps: [{ bucketise: [2, 1] }] }, 'columns.a.steps.0.bucketise: edges must ascend'],
    ['unknown setting', { field: 'x', weight: 2 }, 'columns.a: Unrecognized key: "weight"'],
  ] as const)('%s', (_name, column, expected) => {
    expect(issues(column)).toEqual([expect.stringContaining(expected)])
  })
})

describe('What a section becomes', () => {
  test('a vector may name fields, and without a section it is every number of the predicting input', () => {
    expect(plan({ vector: ['amount', 'online'] }).vector).toMatchObject({ column: 'features', width: 2, names: ['amount', 'online'] })
    expect(compileFeatures(undefined, inputs).vector.names).toEqual(['shop', 'amount'])
  })

  test('oneHot widens the vector', () => {
    const { vector } = plan({ columns: { by: { field: 'channel', steps: [{ oneHot: ['web', 'shop'] }] } }, vector: ['by', 'amount'] })
    expect(vector).toMatchObject({ width: 3, names: ['by=web', 'by=shop', 'amount'] })
  })

  test('a history keeps its longest window and delay, and for late events on top; one that nothing looks at is not kept', () => {
    const columns = {
      a: { window: 'count', history: 'customer', length: '1d' },
      b: { window: 'count', history: 'customer', length: '30d' },
      c: { window: 'share', of: 'fraud', history: 'shop', length: '30d', delay: '7d' },
    }
    const { histories: planned } = plan({ histories, columns, vector: ['a', 'b', 'c'] })
    expect(planned.map(({ title, retentionMs }) => [title, retentionMs / dayMs])).toEqual([
      ['customer', 37],
      ['shop', 67],
    ])
  })
})
