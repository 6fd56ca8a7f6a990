import { renameSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { dayMs, vectors } from './fixture.ts'
import { LookupFolder, lookupPlan, merchants, now, risk, shops, startLookups } from './lookups-fixture.ts'

let folder: LookupFolder
beforeEach(() => {
  folder = new LookupFolder()
})
afterEach(() => folder.remove())

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
    expect(await folder.lookedUp({ merchants: { ...merchants, file: name } }, columns, shops)).toEqual([
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
    expect(await folder.lookedUp({ t: { file: 't.csv', key: 'shop', values } }, columns, shops)).toEqual([
      [5, 1, 22, 0],
      [-3, 0, NaN, 5],
      [NaN, NaN, NaN, 5],
    ])
  })

  test('goes by several columns together where the key is of several fields', async () => {
    folder.write('pairs.csv', 'customer,shop,n\na,7,1\nb,7,2\n')
    const lookups = { pairs: { file: 'pairs.csv', key: ['customer', 'shop'], values: { n: 'integer' } } }
    const events = ['a', 'b', 'c', ''].map((customer) => ({ customer, shop: 7, timeMs: now }))
    expect(await folder.lookedUp(lookups, { n: { lookup: 'pairs', of: 'n' } }, events)).toEqual([[1], [2], [NaN], [NaN]])
  })

  test('has an integer key in one form only: 007 is 7 where the event has an integer', async () => {
    folder.write('merchants.csv', 'shop,risk,category\n007,1,\n 8,2,\n')
    expect(await folder.lookedUp({ merchants }, { risk }, shops)).toEqual([[1], [2], [NaN]])
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
    expect(await folder.lookedUp({ merchants }, columns, events)).toEqual([
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
    expect(await folder.lookedUp(lookups, columns, events)).toEqual([
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
    expect(await folder.lookedUp(lookups, { risk }, events)).toEqual([[NaN], [1], [1], [2], [2], [3], [3]])
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
    const engine = await folder.start(lookupPlan(lookups, { risk }), logger)
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
