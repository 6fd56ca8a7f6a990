import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { validateLookups } from '../src/mod.ts'
import { LookupFolder, lookupPlan, refusal, shops } from './lookups-fixture.ts'

let folder: LookupFolder
beforeEach(() => {
  folder = new LookupFolder()
})
afterEach(() => folder.remove())

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
    expect(await folder.lookedUp(of({ file: name }), columns, shops.slice(0, 2))).toEqual([
      [...there, ...there, ...there],
      [NaN, NaN, NaN, 0, 0, 0, 7, 8, 9],
    ])
  })

  test('may lie in a SQLite table, as text', async () => {
    const database = new DatabaseSync(join(folder.path, 'v.db'))
    database.exec(`CREATE TABLE v (shop INTEGER PRIMARY KEY, embedding TEXT); INSERT INTO v VALUES (7, '[1,2,3]'), (9, '4 5 6')`)
    database.close()
    expect(await folder.lookedUp(of({ table: 'v.db#v' }), { e: embedding }, shops)).toEqual([
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
