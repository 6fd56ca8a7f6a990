import { MeshError } from '@spillway/core'
import { expect, test } from 'vitest'
import { featuresSchema } from '../src/mod.ts'
import { dayMs, featureInput, plan } from './fixture.ts'

const histories = {
  customer: { input: 'payments', key: 'customer', values: ['amount', 'channel', 'online'] },
  shop: { input: 'labels', key: 'shop', values: ['fraud'] },
}

function refusal(column: object, history: object = {}): MeshError {
  const customer = { ...histories.customer, ...history }
  const section = {
    histories: { ...histories, customer },
    columns: { w: { history: 'customer', length: '30d', ...column } },
    vector: ['w'],
  }
  try {
    plan(section)
  } catch (thrown) {
    if (thrown instanceof MeshError) return thrown
    throw thrown
  }
  throw new Error('it was accepted')
}

function issues(column: object, history: object = {}): readonly string[] {
  const section = {
    histories: { customer: { ...histories.customer, ...history } },
    columns: { w: { history: 'customer', length: '30d', ...column } },
    vector: ['w'],
  }
  return (featuresSchema as unknown as { safeParse(section: unknown): { error?: { issues: { path: PropertyKey[] }[] } } })
    .safeParse(section)
    .error!.issues.map(({ path }) => path.join('.'))
}

test('A window that needs more than its history is told to keep is refused, with what would do', () => {
  const error = refusal({ window: 'count', delay: '7d' }, { retention: '40d' })
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'columns.w.length' })
  expect(error.message).toBe(
    'the window reaches 37d back (length and delay), an event may be 7d late on top, and history "customer" keeps 40d: shorten it to 33d in all, or set histories.customer.retention to 44d or more',
  )
  expect(refusal({ window: 'count' }, { retention: '90m' }).message).toContain('shorten it to nothing in all')
  expect(issues({ window: 'count' }, { retention: 'long' })).toEqual(['histories.customer.retention'])
})

test('A history keeps what it is told to, where that is enough', () => {
  const section = (retention: object): unknown => ({
    histories: { customer: { ...histories.customer, ...retention } },
    columns: { w: { window: 'count', history: 'customer', length: '30d' } },
    vector: ['w'],
  })
  expect(plan(section({})).histories[0]!.retentionMs).toBe(37 * dayMs)
  expect(plan(section({ retention: '37d' })).histories[0]!.retentionMs).toBe(37 * dayMs)
  expect(plan(section({ retention: '90d' })).histories[0]!.retentionMs).toBe(90 * dayMs)
})

test('What a window cannot be made from is refused, with what can', () => {
  for (const window of ['sum', 'mean', 'share', 'min', 'max', 'last']) {
    const error = refusal({ window, of: 'channel' })
    expect(error).toMatchObject({ field: 'columns.w.of' })
    expect(error.message).toBe('"channel" is text, of which a history keeps a hash: only count, distinct, sinceLast are made from it')
  }
  expect(refusal({ window: 'share', of: 'amount' })).toMatchObject({ field: 'columns.w.of' })
  expect(refusal({ window: 'count' }, { values: ['at'] })).toMatchObject({ field: 'histories.customer.values[0]' })
  const current = refusal({ window: 'count', history: 'shop', delay: '7d', current: false })
  expect(current).toMatchObject({ field: 'columns.w.current' })
  expect(current.message).toBe('history "shop" is of input "labels": an event of "payments" is not in it')
})

test('Settings that do not go together are refused', () => {
  for (const kind of ['distinct', 'last', 'mean']) expect(issues({ window: kind })).toEqual(['columns.w.of'])
  expect(issues({ window: 'sum', of: 'amount', count: 3 })).toEqual(['columns.w.count'])
  for (const count of [0, 1.5, 257]) expect(issues({ window: 'last', of: 'amount', count })).toEqual(['columns.w.count'])
  expect(issues({ window: 'median', of: 'amount' })).toEqual(['columns.w.window'])
})

test('Several values are named by their place, the newest first', () => {
  const made = plan({
    histories,
    columns: {
      recent: { window: 'last', of: 'amount', count: 3, history: 'customer', length: '30d' },
      one: { window: 'last', of: 'amount', history: 'customer', length: '30d' },
      gap: { window: 'sinceLast', history: 'customer', length: '30d' },
    },
    vector: ['recent', 'one', 'gap'],
  })
  expect(made.vector.names).toEqual(['recent[1]', 'recent[2]', 'recent[3]', 'one', 'gap'])
})

test('A history of other values, or of text where there were numbers, is another history', () => {
  const nameWith = (type: 'string' | 'integer'): string => {
    const payments = featureInput({ customer: 'string', code: type, at: 'timestamp' }, { keyField: 'customer' })
    const section = {
      histories: { h: { input: 'payments', key: 'customer', values: ['code'] } },
      columns: { n: { window: 'distinct', of: 'code', history: 'h', length: '1d' } },
      vector: ['n'],
    }
    return plan(section, new Map([['payments', payments]])).histories[0]!.name
  }
  expect(nameWith('string')).not.toBe(nameWith('integer'))
})
