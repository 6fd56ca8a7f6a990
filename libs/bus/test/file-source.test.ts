import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { textValues } from '@spillway/core'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Slice } from '../src/port.ts'
import { FileSource, type FileSourceOptions } from '../src/replay/file-source.ts'
import { LineReader } from '../src/replay/lines.ts'

const signal = new AbortController().signal

describe('lines', () => {
  test('come out whole, however the bytes are cut, and blank ones only count', () => {
    const line = fc
      .oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('', ' ', '\t', 'x'.repeat(40)))
      .filter((text) => !/[\r\n]/.test(text))
    const cases = fc.record({
      lines: fc.array(line, { maxLength: 30 }),
      ends: fc.infiniteStream(fc.constantFrom('\n', '\r\n')),
      open: fc.boolean(),
      cuts: fc.infiniteStream(fc.integer({ min: 1, max: 20 })),
      from: fc.nat(10),
      maxLines: fc.integer({ min: 1, max: 8 }),
    })
    fc.assert(
      fc.property(cases, ({ lines, ends, open, cuts, from, maxLines }) => {
        const text = lines.map((line, i) => line + (open && i === lines.length - 1 ? '' : ends.next().value)).join('')
        const bytes = Buffer.from(text)
        const reader = new LineReader({ from, maxLineBytes: 1000, maxLines })
        const given: string[] = []
        const take = (batches: Iterable<{ values: Slice['records']['values']; numbers: readonly number[] }>): void => {
          for (const { values, numbers } of batches) {
            expect(numbers.length).toBeLessThanOrEqual(maxLines)
            given.push(...textValues(values).map((value, i) => `${numbers[i]} ${value}`))
          }
        }
        for (let at = 0; at < bytes.length;) {
          const end = at + cuts.next().value
          take(reader.push(bytes.subarray(at, end)))
          at = end
        }
        take(reader.end())
        const expected = lines.map((value, i) => `${i} ${value}`).slice(from)
        // oxlint-disable-next-line no-control-regex
        expect(given).toEqual(expected.filter((entry) => !/^\d+ [\0-\x20]*$/.test(entry)))
      }),
    )
  })

  test('a line that is too long is cut to one byte more than it may have', () => {
    const reader = new LineReader({ from: 0, maxLineBytes: 10, maxLines: 100 })
    const given: string[] = []
    for (const chunk of ['x'.repeat(6), 'x'.repeat(600), '\nshort\n0123456789\r\n', '0123456789', '\r', '\n01234567890\n'])
      for (const { values } of reader.push(Buffer.from(chunk))) given.push(...textValues(values))
    for (const { values } of reader.end()) given.push(...textValues(values))
    expect(given).toEqual(['x'.repeat(11), 'short', '0123456789', '0123456789', '01234567890'])
  })
})

describe('files as a source', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'spillway-files-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const place = (name: string): string => join(folder, name)

  async function readAll(source: FileSource, from = 0n): Promise<{ rows: string[]; slices: Slice[] }> {
    await source.open()
    const slices: Slice[] = []
    for await (const slice of source.read(0, from, 100, signal)) slices.push(slice)
    return {
      slices,
      rows: slices.flatMap(({ records, offsets }) => textValues(records.values).map((value, i) => `${offsets[i]} ${value}`)),
    }
  }

  const source = (paths: readonly string[], options: Partial<FileSourceOptions> = {}): FileSource =>
    new FileSource({ topic: 'in', paths, ...options })

  test('several files, packed or not, are one partition with the line numbers over all of them', async () => {
    writeFileSync(place('a'), '\uFEFF{"n":0}\r\n\r\n{"n":2}')
    writeFileSync(place('empty'), '')
    writeFileSync(place('b.gz'), Buffer.concat([gzipSync('{"n":3}\n'), gzipSync('{"n":4}\n')]))
    writeFileSync(place('c'), '\n{"n":6}\n')
    const paths = ['a', 'empty', 'b.gz', 'c'].map(place)
    const all = ['0 {"n":0}', '2 {"n":2}', '3 {"n":3}', '4 {"n":4}', '6 {"n":6}']
    expect((await readAll(source(paths))).rows).toEqual(all)
    for (let from = 0; from < 8; from++)
      expect((await readAll(source(paths), BigInt(from))).rows).toEqual(all.filter((row) => Number(row.split(' ')[0]) >= from))
  })

  test('records have the time that is given, or when their file was changed', async () => {
    writeFileSync(place('a'), 'x\n')
    const { slices } = await readAll(source([place('a')]))
    expect([...slices[0]!.records.timestampsMs]).toEqual([Math.floor(statSync(place('a')).mtimeMs)])
    expect([...(await readAll(source([place('a')], { timestampMs: 5 }))).slices[0]!.records.timestampsMs]).toEqual([5])
  })

  test('slices are bounded, and a long line still is a record', async () => {
    writeFileSync(place('a'), `${'x'.repeat(3 << 20)}\n${'y\n'.repeat(1000)}`)
    const { slices, rows } = await readAll(source([place('a')], { maxRecordBytes: 1000 }))
    expect(rows).toHaveLength(1001)
    expect(slices.every(({ records }) => records.count <= 100)).toBe(true)
    expect(rows[0]).toHaveLength('0 '.length + 1001)
  })

  test('is known again by name, size and contents', async () => {
    const identity = async (contents: string): Promise<string> => {
      writeFileSync(place('a'), contents)
      return (await source([place('a')]).open()).identity
    }
    const first = await identity('{"n":1}\n')
    expect(first).toMatch(/^a \(8 bytes, digest [0-9a-f]{16}\)$/)
    expect(await identity('{"n":1}\n')).toBe(first)
    expect(await identity('{"n":2}\n')).not.toBe(first)
  })

  test('says how much was read', async () => {
    writeFileSync(place('a'), 'x\n'.repeat(500_000))
    const files = source([place('a')])
    await files.open()
    const shares: number[] = []
    for await (const { records } of files.read(0, 0n, 10_000, signal)) {
      expect(records.count).toBeGreaterThan(0)
      shares.push(files.readShare())
    }
    expect(shares[0]).toBeLessThan(1)
    expect(shares).toEqual(shares.toSorted((a, b) => a - b))
    expect(shares.at(-1)).toBe(1)
  })

  test('what cannot be read is an error that names the file, and the line where there is one', async () => {
    await expect(source([place('none')]).open()).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining(place('none')),
    })
    await expect(source([folder]).open()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', field: 'paths' })
    expect(() => source([])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', field: 'paths' }))
    const lines = Array.from({ length: 5000 }, () => `{"n":${Math.random()}}\n`).join('')
    const packed = gzipSync(lines)
    writeFileSync(place('cut.gz'), packed.subarray(0, packed.length / 2))
    await expect(readAll(source([place('cut.gz')]))).rejects.toMatchObject({
      code: 'DATA_LOSS',
      message: expect.stringMatching(/cut\.gz:\d{2,}: /),
    })
    writeFileSync(place('shrinks'), lines)
    const shrinking = source([place('shrinks')])
    await shrinking.open()
    truncateSync(place('shrinks'), 1000)
    await expect(
      (async () => {
        for await (const slice of shrinking.read(0, 0n, 100, signal)) expect(slice.records.count).toBeGreaterThan(0)
      })(),
    ).rejects.toMatchObject({ code: 'DATA_LOSS', message: expect.stringContaining('shrinks:') })
  })

  test('a file that grows is read to the size that it had', async () => {
    writeFileSync(place('a'), 'x\n'.repeat(10))
    const growing = source([place('a')])
    await growing.open()
    writeFileSync(place('a'), 'x\n'.repeat(20))
    let count = 0
    for await (const slice of growing.read(0, 0n, 100, signal)) count += slice.records.count
    expect(count).toBe(10)
  })
})
