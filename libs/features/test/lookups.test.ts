import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { featuresSchema, validateLookups } from '../src/mod.ts'
import { dayMs, type Payment, plan, vectors } from './fixture.ts'
import { LookupFolder, lookupPlan, refusal, startLookups } from './lookups-fixture.ts'

let folder: LookupFolder
const drains: (() => Promise<void>)[] = []
beforeEach(() => {
  folder = new LookupFolder()
})
afterEach(async () => {
  for (const drain of drains.splice(0)) await drain()
  folder.remove()
})

async function lookedUp(
  lookups: Readonly<Record<string, unknown>>,
  columns: Readonly<Record<string, unknown>>,
  events: readonly Payment[],
): Promise<(readonly number[] | string)[]> {
  const { engine, drain } = await startLookups(lookupPlan(lookups, columns), { folder: folder.path })
  drains.push(drain)
  const streamed = await vectors(engine, 'payments', events, { firstOffset: 0 })
  expect(await vectors(engine, 'payments', events, 'request')).toEqual(streamed)
  return streamed
}

const now = Date.parse('2024-05-01T00:00:00Z')
const shops = [7, 8, 9].map((shop) => ({ shop, timeMs: now }))
const merchants = { file: './merchants.csv', key: 'shop', values: { risk: 'number', category: 'string' } }
const risk = { lookup: 'merchants', of: 'risk' }

describe('A table file', () => {
  const csv = 'category,risk,shop,ignored\r\ngrocery,0.25,7,x\r\n"travel, far",,8,y\r\n'
  const lines = '{"shop":7,"risk":0.25,"category":"grocery"}\n\n{"shop":"8","category":"travel, far"}\n'

  test.each([
    ['merchants.csv', csv],
    ['merchants.csv.gz', gzipSync(csv)],
    ['merchants.ndjson', lines],
    ['merchants.jsonl.gz', gzipSync(lines)],
    ['bom.csv', `\ufeff${csv}`],
  ] as const)('%s gives values by key; a missing one is the default, or absent', async (name, content) => {
    folder.write(name, content)
    const columns = {
      risk,
      risk_or_half: { ...risk, default: 0.5 },
      category: { lookup: 'merchants', of: 'category', default: 'none', steps: [{ oneHot: ['grocery', 'travel, far', 'none'] }] },
    }
    expect(await lookedUp({ merchants: { ...merchants, file: name } }, columns, shops)).toEqual([
      [0.25, 0.25, 1, 0, 0],
      [NaN, 0.5, 0, 1, 0],
      [NaN, 0.5, 0, 0, 1],
    ])
  })

  test('holds integers, booleans and times too', async () => {
    folder.write('t.csv', 'shop,stars,open,since,until\n7,5,true,2024-04-30T23:00:00+01:00,1714521600000\n8,-3,0,,\n')
    const values = { stars: 'integer', open: 'boolean', since: 'timestamp', until: 'timestamp' }
    const columns = {
      stars: { lookup: 't', of: 'stars' },
      open: { lookup: 't', of: 'open' },
      since: { lookup: 't', of: 'since', steps: ['hour'] },
      until: { lookup: 't', of: 'until', default: '2024-05-01T05:00:00Z', steps: ['hour'] },
    }
    expect(await lookedUp({ t: { file: 't.csv', key: 'shop', values } }, columns, shops)).toEqual([
      [5, 1, 22, 0],
      [-3, 0, NaN, 5],
      [NaN, NaN, NaN, 5],
    ])
  })

  test('goes by several columns together where the key is of several fields', async () => {
    folder.write('pairs.csv', 'customer,shop,n\na,7,1\nb,7,2\n')
    const lookups = { pairs: { file: 'pairs.csv', key: ['customer', 'shop'], values: { n: 'integer' } } }
    const events = ['a', 'b', 'c', ''].map((customer) => ({ customer, shop: 7, timeMs: now }))
    expect(await lookedUp(lookups, { n: { lookup: 'pairs', of: 'n' } }, events)).toEqual([[1], [2], [NaN], [NaN]])
  })

  test('has an integer key in one form only: 007 is 7 where the event has an integer', async () => {
    folder.write('merchants.csv', 'shop,risk,category\n007,1,\n 8,2,\n')
    expect(await lookedUp({ merchants }, { risk }, shops)).toEqual([[1], [2], [NaN]])
  })

  test('is asked only where the event does not say it itself', async () => {
    folder.write('merchants.csv', 'shop,risk,category\n7,1,a\n8,2,b\n')
    const columns = {
      known: { ...risk, field: 'amount', default: -1 },
      kind: { lookup: 'merchants', of: 'category', field: 'channel', steps: [{ oneHot: ['a', 'web'] }] },
    }
    const events = [
      { shop: 7, amount: 30, channel: 'web', timeMs: now },
      { shop: 7, amount: NaN, channel: '', timeMs: now },
      { shop: 9, amount: NaN, channel: '', timeMs: now },
    ]
    expect(await lookedUp({ merchants }, columns, events)).toEqual([
      [30, 0, 1],
      [1, 1, 0],
      [-1, 0, 0],
    ])
  })

  test('says how old its values are: older ones than asked for are not used, at the event’s time', async () => {
    folder.write('merchants.csv', 'shop,risk,category,at\n7,1,a,2024-04-30T00:00:00Z\n')
    const lookups = { merchants: { ...merchants, time: 'at', maxAge: '2d' } }
    const columns = { two: { ...risk, default: -1 }, one: { ...risk, maxAge: '1d', default: -1 } }
    const events = [now, now + 1, now + dayMs, now + dayMs + 1, now - 9 * dayMs].map((timeMs) => ({ shop: 7, timeMs }))
    expect(await lookedUp(lookups, columns, events)).toEqual([
      [1, 1],
      [1, -1],
      [1, -1],
      [-1, -1],
      [1, 1],
    ])
  })

  test('may keep several versions a key: the newest at or before the event counts, whatever their order in the file', async () => {
    folder.write('merchants.csv', `shop,risk,category,at\n7,2,a,${now}\n8,9,a,${now}\n7,1,a,${now - 10}\n7,3,a,${now + 10}\n`)
    const lookups = { merchants: { ...merchants, time: 'at', versions: true } }
    const events = [-11, -10, -1, 0, 9, 10, 99].map((ms) => ({ shop: 7, timeMs: now + ms }))
    expect(await lookedUp(lookups, { risk }, events)).toEqual([[NaN], [1], [1], [2], [2], [3], [3]])
  })

  test('gives the version that its definition says, whatever the keys, times and order', async () => {
    const versions = fc.uniqueArray(fc.record({ shop: fc.integer({ min: 1, max: 3 }), at: fc.integer({ min: 0, max: 20 }) }), {
      minLength: 1,
      maxLength: 25,
      selector: ({ shop, at }) => `${shop}/${at}`,
    })
    const asked = fc.array(fc.record({ shop: fc.integer({ min: 1, max: 4 }), timeMs: fc.integer({ min: -1, max: 21 }) }), {
      minLength: 1,
      maxLength: 20,
    })
    const lookups = { merchants: { ...merchants, values: { risk: 'number' }, time: 'at', versions: true } }
    await fc.assert(
      fc.asyncProperty(versions, asked, async (rows, events) => {
        folder.write('merchants.csv', `shop,at,risk\n${rows.map(({ shop, at }, index) => `${shop},${at},${index}`).join('\n')}\n`)
        const { engine, drain } = await startLookups(lookupPlan(lookups, { risk: { ...risk, default: -1 } }), { folder: folder.path })
        const expected = events.map(({ shop, timeMs }) => {
          const known = rows.filter((row) => row.shop === shop && row.at <= timeMs).sort((a, b) => b.at - a.at)
          return [known.length === 0 ? -1 : rows.indexOf(known[0]!)]
        })
        expect(await vectors(engine, 'payments', events, 'request')).toEqual(expected)
        await drain()
      }),
      { numRuns: 50 },
    )
  })

  test('that changes is read again, as a whole; a bad one leaves the old one in place, and is logged', async () => {
    const said: string[] = []
    const say = (fields: { readonly err?: Error }, message: string): void => void said.push(`${message} ${fields.err?.message ?? ''}`)
    const path = folder.write('merchants.csv', 'shop,risk,category\n7,1,a\n')
    const lookups = { merchants: { ...merchants, refresh: '5ms' } }
    const logger = { info: say, warn: say, error: say }
    const { engine, drain } = await startLookups(lookupPlan(lookups, { risk }), { folder: folder.path, logger })
    drains.push(drain)
    const seen = async (): Promise<unknown> => (await vectors(engine, 'payments', [{ shop: 7, timeMs: now }], 'request'))[0]
    expect(await seen()).toEqual([1])
    replace(path, 'shop,risk,category\n7,2,a\n')
    await expect.poll(seen).toEqual([2])
    replace(path, 'shop,risk,category\n7,3,a\n7,4,a\n')
    await expect.poll(() => said.at(-1)).toMatch(/old table stays.*merchants\.csv:3: shop 7 is in line 2 already/)
    expect(await seen()).toEqual([2])
    replace(path, 'shop,risk,category\n7,5,a\n')
    await expect.poll(seen).toEqual([5])
  })
})

/** As a careful job writes: beside, and then in its place. */
function replace(path: string, content: string): void {
  writeFileSync(`${path}.new`, content)
  renameSync(`${path}.new`, path)
}

describe('A SQLite table', () => {
  function database(name: string, sql: string): DatabaseSync {
    const opened = new DatabaseSync(join(folder.path, name))
    opened.exec(sql)
    return opened
  }
  const scores = { table: './scores.db#scores', key: 'customer', values: { score: 'number', kind: 'string' } }
  const score = { lookup: 'scores', of: 'score', default: -1 }

  test('is read as it is at each slice, also where another job has just written it', async () => {
    const writer = database(
      'scores.db',
      `PRAGMA journal_mode = WAL; CREATE TABLE scores (customer TEXT PRIMARY KEY, kind TEXT, score REAL); INSERT INTO scores VALUES ('a', 'x', 0.5), ('b', NULL, 2)`,
    )
    const columns = { score, kind: { lookup: 'scores', of: 'kind', steps: [{ oneHot: ['x'] }] } }
    const { engine, drain } = await startLookups(lookupPlan({ scores }, columns), { folder: folder.path })
    drains.push(drain)
    const events = ['a', 'b', 'a', 'c', ''].map((customer) => ({ customer, timeMs: now }))
    expect(await vectors(engine, 'payments', events, { firstOffset: 0 })).toEqual([
      [0.5, 1],
      [2, 0],
      [0.5, 1],
      [-1, 0],
      [-1, 0],
    ])
    writer.exec(`INSERT INTO scores VALUES ('c', 'x', 3)`)
    expect(await vectors(engine, 'payments', events.slice(3, 4), { firstOffset: 5 })).toEqual([[3, 1]])
    writer.close()
  })

  test('is read from the new file where a job puts another one in its place', async () => {
    const make = (name: string, value: number): void => {
      const opened = database(name, `CREATE TABLE scores (customer TEXT PRIMARY KEY, kind TEXT, score REAL)`)
      opened.prepare(`INSERT INTO scores VALUES ('a', 'x', ?)`).run(value)
      opened.close()
    }
    make('scores.db', 1)
    const { engine, drain } = await startLookups(lookupPlan({ scores }, { score }), { folder: folder.path })
    drains.push(drain)
    const seen = (): Promise<unknown> => vectors(engine, 'payments', [{ customer: 'a', timeMs: now }], 'request')
    expect(await seen()).toEqual([[1]])
    make('new.db', 2)
    renameSync(join(folder.path, 'new.db'), join(folder.path, 'scores.db'))
    expect(await seen()).toEqual([[2]])
  })

  test('stays what it was where the file that is put in its place cannot be used, which is logged once', async () => {
    database('scores.db', `CREATE TABLE scores (customer TEXT, kind TEXT, score REAL); INSERT INTO scores VALUES ('a', 'x', 1)`).close()
    const complaints: string[] = []
    const logger = { info: () => {}, warn: () => {}, error: (_: object, message: string) => complaints.push(message) }
    const { engine, drain } = await startLookups(lookupPlan({ scores }, { score }), { folder: folder.path, logger })
    drains.push(drain)
    const seen = (): Promise<unknown> => vectors(engine, 'payments', [{ customer: 'a', timeMs: now }], 'request')
    const replace = (name: string): void => renameSync(join(folder.path, name), join(folder.path, 'scores.db'))
    folder.write('new.db', 'half a database, of which nobody can say what will be in it'.repeat(20))
    replace('new.db')
    expect([await seen(), await seen()]).toEqual([[[1]], [[1]]])
    database('other.db', 'CREATE TABLE scores (customer TEXT, points REAL)').close()
    replace('other.db')
    expect([await seen(), await seen()]).toEqual([[[1]], [[1]]])
    expect(complaints).toEqual(new Array(2).fill('a table file that was replaced cannot be used: the old table stays'))
    database('good.db', `CREATE TABLE scores (customer TEXT, kind TEXT, score REAL); INSERT INTO scores VALUES ('a', 'x', 2)`).close()
    replace('good.db')
    expect(await seen()).toEqual([[2]])
  })

  test('goes by integers of 64 bits', async () => {
    database(
      'scores.db',
      `CREATE TABLE scores (customer INTEGER PRIMARY KEY, kind, score);
       INSERT INTO scores VALUES (1234567890123456789, 'x', 1), (-9223372036854775808, 'x', 2), (9223372036854775807, 'x', 3)`,
    ).close()
    const events = ['1234567890123456789', '-9223372036854775808', '9223372036854775807', '9223372036854775808', '1e3'].map((customer) => ({
      customer,
      timeMs: now,
    }))
    expect(await lookedUp({ scores }, { score }, events)).toEqual([[1], [2], [3], [-1], [-1]])
  })

  test.each(['INTEGER', 'TEXT', ''])('goes by an integer key in a column declared "%s"', async (type) => {
    database('scores.db', `CREATE TABLE scores (shop ${type}, score); INSERT INTO scores VALUES (7, 1), (8, 2)`).close()
    const lookups = { scores: { ...scores, key: 'shop', values: { score: 'integer' } } }
    expect(await lookedUp(lookups, { score }, shops)).toEqual([[1], [2], [-1]])
  })

  test('says how old its values are, and may keep several versions of them', async () => {
    const at = (ms: number): number => now + ms
    database(
      'scores.db',
      `CREATE TABLE scores (customer TEXT, shop INTEGER, at INTEGER, score REAL, PRIMARY KEY (customer, shop, at));
       INSERT INTO scores VALUES ('a', 7, ${at(-dayMs)}, 1), ('a', 7, ${at(0)}, 2), ('a', 8, ${at(0)}, 3)`,
    ).close()
    const lookups = {
      scores: { ...scores, key: ['customer', 'shop'], values: { score: 'number' }, time: 'at', versions: true, maxAge: '12h' },
    }
    const events = [-dayMs - 1, -dayMs, -1, 0, dayMs / 2, dayMs].map((ms) => ({ customer: 'a', shop: 7, timeMs: at(ms) }))
    expect(await lookedUp(lookups, { score }, events)).toEqual([[-1], [1], [-1], [2], [2], [-1]])
  })

  test.each([
    [
      'no table',
      'CREATE TABLE other (x); CREATE VIEW seen AS SELECT * FROM other',
      /scores\.db#scores: there is no such table: choose among other, seen$/,
    ],
    ['no column', 'CREATE TABLE scores (customer, score)', /there is no column "kind": the table has customer, score$/],
    [
      'duplicate keys',
      `CREATE TABLE scores (customer, score, kind); INSERT INTO scores VALUES ('a', 1, ''), ('b', 1, ''), ('b', 1, '')`,
      /customer b is there 2 times: give one row a key$/,
    ],
    [
      'a value of the wrong type',
      `CREATE TABLE scores (customer, score, kind); INSERT INTO scores VALUES ('a', 1, ''), ('b', 'high', '')`,
      /score of b is "high": a number/,
    ],
  ] as const)('is refused with %s', async (_name, sql, message) => {
    database('scores.db', sql).close()
    const error = await refusal(validateLookups(lookupPlan({ scores }, { score }), folder.path, new AbortController().signal))
    expect(error).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'lookups.scores.table',
      message: expect.stringMatching(message) as string,
    })
  })

  test('is refused where there is no file, or it is no database', async () => {
    const tried = (): Promise<unknown> =>
      refusal(validateLookups(lookupPlan({ scores }, { score }), folder.path, new AbortController().signal))
    expect(await tried()).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('there is no such file') as string })
    folder.write('scores.db', 'this is no database, however long it may be, and it is not short at all.'.repeat(10))
    expect(await tried()).toMatchObject({ code: 'FAILED_PRECONDITION', message: expect.stringContaining('not a database') as string })
  })

  test('with a value that is not what was declared fails the rows that asked for it, not their neighbours, and they are history all the same', async () => {
    const writer = database(
      'scores.db',
      `CREATE TABLE scores (customer TEXT PRIMARY KEY, score); INSERT INTO scores VALUES ('a', 1), ('b', 2)`,
    )
    const columns = { score, seen: { window: 'count', history: 'customers', length: '1d' } }
    const lookups = { scores: { ...scores, values: { score: 'number' } } }
    const of = plan({
      lookups,
      histories: { customers: { input: 'payments', key: 'customer' } },
      columns,
      vector: ['score', 'seen'],
    })
    const { engine, drain } = await startLookups(of, { folder: folder.path })
    drains.push(drain)
    writer.exec(`UPDATE scores SET score = 'high' WHERE customer = 'b'`)
    const events = ['a', 'b', 'a', 'b'].map((customer) => ({ customer, timeMs: now }))
    expect(await vectors(engine, 'payments', events, { firstOffset: 0 })).toEqual([
      [1, 1],
      'FAILED_PRECONDITION',
      [1, 2],
      'FAILED_PRECONDITION',
    ])
    writer.exec(`UPDATE scores SET score = 5 WHERE customer = 'b'`)
    // Given again from the dead letter, at its own position: counted once.
    expect(await vectors(engine, 'payments', [events[3]!], { firstOffset: 3 })).toEqual([[5, 2]])
    expect(await vectors(engine, 'payments', [events[3]!], { firstOffset: 4 })).toEqual([[5, 3]])
  })
})

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

describe('A vector', () => {
  const embedding = { lookup: 'vectors', of: 'embedding' }
  const of = (place: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> => ({
    vectors: { ...place, key: 'shop', values: { embedding: { vector: 3 } } },
  })

  test.each([
    ['v.ndjson', '{"shop":7,"embedding":[1,-2,0.5]}\n{"shop":8,"embedding":null}\n'],
    ['v.csv', 'shop,embedding\n7,"[1, -2, 0.5]"\n8,\n'],
    ['commas.csv', 'shop,embedding\n7,"1,-2, 0.5"\n'],
    ['spaces.csv.gz', gzipSync('shop,embedding\n7, 1 -2   5e-1 \n')],
  ] as const)('is looked up whole, from %s; absent is NaN, a default a number or a list', async (name, content) => {
    folder.write(name, content)
    const columns = { e: embedding, zero: { ...embedding, default: 0 }, given: { ...embedding, default: [7, 8, 9] } }
    const made = lookupPlan(of({ file: name }), columns)
    expect(made.vector.names).toEqual(['e', 'zero', 'given'].flatMap((column) => [0, 1, 2].map((element) => `${column}[${element}]`)))
    const there = [1, -2, 0.5]
    expect(await lookedUp(of({ file: name }), columns, shops.slice(0, 2))).toEqual([
      [...there, ...there, ...there],
      [NaN, NaN, NaN, 0, 0, 0, 7, 8, 9],
    ])
  })

  test('may lie in a SQLite table, as text', async () => {
    const database = new DatabaseSync(join(folder.path, 'v.db'))
    database.exec(`CREATE TABLE v (shop INTEGER PRIMARY KEY, embedding TEXT); INSERT INTO v VALUES (7, '[1,2,3]'), (9, '4 5 6')`)
    database.close()
    expect(await lookedUp(of({ table: 'v.db#v' }), { e: embedding }, shops)).toEqual([
      [1, 2, 3],
      [NaN, NaN, NaN],
      [4, 5, 6],
    ])
  })

  test.each([
    ['[1,2]', /v\.ndjson:1: embedding is \[1,2\]: a vector of 3 numbers, not of 2, is expected$/],
    ['[1,2,"x"]', /:1: embedding is "x": a number within .* as the vector's element 2 is expected$/],
    ['[1,2,1e39]', /element 2/],
    ['5', /:1: embedding is 5: a vector of 3 numbers \(a JSON list/],
  ] as const)('of another form is refused: %s', async (json, message) => {
    folder.write('v.ndjson', `{"shop":7,"embedding":${json}}\n`)
    const error = await refusal(
      validateLookups(lookupPlan(of({ file: 'v.ndjson' }), { e: embedding }), folder.path, new AbortController().signal),
    )
    expect(error.message).toMatch(message)
  })

  test('takes a default of its own width', () => {
    expect(() => lookupPlan(of({ file: 'v.csv' }), { e: { ...embedding, default: [1, 2] } })).toThrow(
      /\[1,2\] does not stand for a looked-up vector of 3: give a number, or a list of 3/,
    )
  })
})

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
