import { inputSchema } from '@spillway/wire'
import { expect, test } from 'vitest'

test('a field may be given by its type alone', () => {
  expect(
    inputSchema.parse({ lateness: '30d', fields: { amount: 'number', note: { type: 'string', optional: true, maxLength: 9 } } }),
  ).toEqual({
    latenessMs: 30 * 86_400_000,
    predict: true,
    fields: { amount: { type: 'number', optional: false }, note: { type: 'string', optional: true, maxLength: 9 } },
  })
})

test.each([
  [{}, 'fields', /expected record/],
  [{ fields: {} }, 'fields', /declare the fields/],
  [{ fields: { a: 'float' } }, 'fields.a.type', /choose string, number, integer, boolean or timestamp/],
  [{ fields: { a: 3 } }, 'fields.a', /give a type/],
  [{ fields: { a: { type: 'number', minimum: 3 } } }, 'fields.a', /minimum/],
  [{ fields: { a: { type: 'string', min: 3 } } }, 'fields.a.min', /only a number or integer/],
  [{ fields: { a: { type: 'number', min: 3, max: 2 } } }, 'fields.a.max', /below the minimum/],
  [{ fields: { a: { type: 'number', maxLength: 3 } } }, 'fields.a.maxLength', /only a string/],
  [{ fields: { 'spillway.ids': 'string' } }, 'fields', /reserved/],
  [{ id: 'b', fields: { a: 'string' } }, 'id', /there is no field "b"; the fields are a/],
  [{ id: 'constructor', fields: { a: 'string' } }, 'id', /there is no field/],
  [{ key: 'a', fields: { a: 'number' } }, 'key', /as key it must be a string or integer/],
  [{ key: 'a', fields: { a: { type: 'string', optional: true } } }, 'key', /is optional/],
  [{ time: 'a', fields: { a: 'integer' } }, 'time', /must be a timestamp/],
  [{ lateness: 'a week', fields: { a: 'integer' } }, 'lateness', /no duration/],
  [{ topics: 'a', fields: { a: 'integer' } }, '', /topics/],
])('%j is refused at %s', (input, path, text) => {
  const { issues } = inputSchema.safeParse(input).error!
  expect(issues[0]!.path.join('.')).toBe(path)
  expect(issues[0]!.message).toMatch(text)
})
