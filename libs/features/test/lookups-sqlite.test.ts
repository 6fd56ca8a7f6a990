import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { validateLookups } from '../src/mod.ts'
import { dayMs, plan, vectors } from './fixture.ts'
import { LookupFolder, lookupPlan, now, refusal, shops } from './lookups-fixture.ts'

let folder: LookupFolder
beforeEach(() => {
  folder = new LookupFolder()
})
afterEach(() => folder.remove())

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
    const engine = await folder.start(lookupPlan({ scores }, columns))
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
    const engine = await folder.start(lookupPlan({ scores }, { score }))
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
    const engine = await folder.start(lookupPlan({ scores }, { score }), logger)
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
    expect(await folder.lookedUp({ scores }, { score }, events)).toEqual([[1], [2], [3], [-1], [-1]])
  })

  test.each(['INTEGER', 'TEXT', ''])('goes by an integer key in a column declared "%s"', async (type) => {
    database('scores.db', `CREATE TABLE scores (shop ${type}, score); INSERT INTO scores VALUES (7, 1), (8, 2)`).close()
    const lookups = { scores: { ...scores, key: 'shop', values: { score: 'integer' } } }
    expect(await folder.lookedUp(lookups, { score }, shops)).toEqual([[1], [2], [-1]])
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
    expect(await folder.lookedUp(lookups, { score }, events)).toEqual([[-1], [1], [-1], [2], [2], [-1]])
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
    const engine = await folder.start(of)
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
