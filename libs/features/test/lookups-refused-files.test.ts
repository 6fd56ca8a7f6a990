import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { validateLookups } from '../src/mod.ts'
import { LookupFolder, lookupPlan, merchants, refusal, risk } from './lookups-fixture.ts'

let folder: LookupFolder
beforeEach(() => {
  folder = new LookupFolder()
})
afterEach(() => folder.remove())

describe('A table file is refused, with its line and what would be right', () => {
  const timed = { time: 'at' }
  test.each([
    ['no such file', undefined, {}, /merchants\.csv: there is no such file$/],
    ['an empty one', '', {}, /merchants\.csv: it is empty: a header with shop, risk, category is expected$/],
    ['a missing column', 'shop,risk\n7,1\n', {}, /merchants\.csv:1: there is no column "category": the header has shop, risk$/],
    ['a column twice', 'shop,risk,category,risk\n', {}, /:1: the header has "risk" twice$/],
    ['the same key twice', 'shop,risk,category\n7,1,a\n8,1,a\n7,2,b\n', {}, /:4: shop 7 is in line 2 already: give one row a key$/],
    ['a value of the wrong type', 'shop,risk,category\n7,1,a\n8,high,a\n', {}, /:3: risk is "high": a number within/],
    ['a number that FP32 cannot hold', 'shop,risk,category\n7,1e39,a\n', {}, /:2: risk is "1e39": a number within ±3\.4/],
    ['a key of the wrong type', 'shop,risk,category\nseven,1,a\n', {}, /:2: shop is "seven": an integer is expected, as in the events$/],
    ['no key', 'shop,risk,category\n,1,a\n', {}, /:2: shop is missing or no key/],
    ['no time', 'shop,risk,category,at\n7,1,a,\n', timed, /:2: at is missing: every row of the table needs its time$/],
    ['a time that is none', 'shop,risk,category,at\n7,1,a,yesterday\n', timed, /:2: at is "yesterday": an RFC 3339 time/],
    [
      'the same version twice',
      'shop,risk,category,at\n7,1,a,5\n7,1,a,6\n7,1,a,5\n',
      { ...timed, versions: true },
      /:4: the same key and at are in line 2 already/,
    ],
    [
      'versions that were not meant',
      'shop,risk,category,at\n7,1,a,5\n7,1,a,6\n',
      timed,
      /:3: .* or "versions: true" to keep several by time$/,
    ],
    ['broken CSV', 'shop,risk,category\n7,"1,a\n', {}, /this is no CSV: Quote Not Closed/],
    ['too few columns', 'shop,risk,category\n7,1\n', {}, /:2: this is no CSV: Invalid Record Length/],
  ] as const)('%s', async (_name, content, more, message) => {
    if (content !== undefined) folder.write('merchants.csv', content)
    const of = lookupPlan({ merchants: { ...merchants, ...more } }, { risk })
    const error = await refusal(validateLookups(of, folder.path, new AbortController().signal))
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) as string })
    expect(error.field).toMatch(/^lookups\.merchants/)
  })

  test.each([
    ['t.ndjson', '{"shop":7,"n":1}\n{"shop":\n', /t\.ndjson:2: this is no JSON/],
    ['t.ndjson', '{"shop":7,"n":1}\n[7]\n', /:2: a JSON object is expected in each line/],
    ['t.ndjson', '{"shop":7,"m":1}\n', /no line has "n"/],
    ['t.ndjson', '{"shop":7,"n":true}\n', /:1: n is true: an integer/],
    ['t.ndjson', '{"shop":1e30,"n":1}\n', /:1: shop is 1e\+30: a key is text or an integer/],
    ['t.ndjson', '{"shop":7,"n":1}\n{"shop":"7","n":1}\n', /:2: shop 7 is in line 1 already/],
    ['t.csv.gz', 'shop,n\n', /it cannot be read: incorrect header check/],
    ['t.parquet', '', /a table file is called \.csv, \.ndjson or \.jsonl/],
  ] as const)('%s: %s', async (name, content, message) => {
    folder.write(name, content)
    const of = lookupPlan({ t: { file: name, key: 'shop', values: { n: 'integer' } } }, { n: { lookup: 't', of: 'n' } })
    const error = await refusal(validateLookups(of, folder.path, new AbortController().signal))
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', field: expect.stringContaining('lookups.t') as string })
    expect(error.message).toMatch(message)
  })
})
