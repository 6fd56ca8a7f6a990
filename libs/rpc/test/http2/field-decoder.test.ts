import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FieldBlockError, FieldDecoder } from '../../src/http2/field-decoder.ts'
import { encodeFields } from '../../src/http2/field-encoder.ts'

const limits = { maxTableBytes: 4096, maxListBytes: 65_536 }
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

const requests = [
  [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'],
  [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com', 'cache-control', 'no-cache'],
  [':method', 'GET', ':scheme', 'https', ':path', '/index.html', ':authority', 'www.example.com', 'custom-key', 'custom-value'],
]
const [early, late] = ['Mon, 21 Oct 2013 20:13:21 GMT', 'Mon, 21 Oct 2013 20:13:22 GMT']
const place = 'https://www.example.com'
const cookie = 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'
const responses = [
  [':status', '302', 'cache-control', 'private', 'date', early, 'location', place],
  [':status', '307', 'cache-control', 'private', 'date', early, 'location', place],
  [':status', '200', 'cache-control', 'private', 'date', late, 'location', place, 'content-encoding', 'gzip', 'set-cookie', cookie],
]
/** The examples of responses are of a table of 256 bytes. */
const tableOf256 = '3fe101'

describe('the examples of RFC 7541, Appendix C', () => {
  it.each([
    ['C.2.1', '400a637573746f6d2d6b65790d637573746f6d2d686561646572', ['custom-key', 'custom-header']],
    ['C.2.2', '040c2f73616d706c652f70617468', [':path', '/sample/path']],
    ['C.2.3', '100870617373776f726406736563726574', ['password', 'secret']],
    ['C.2.4', '82', [':method', 'GET']],
  ])('%s: a field alone', (_, block, fields) => {
    expect(new FieldDecoder(limits).decode(hex(block))).toEqual(fields)
  })

  it.each([
    [
      'C.3: requests',
      requests,
      [
        '828684410f7777772e6578616d706c652e636f6d',
        '828684be58086e6f2d6361636865',
        '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
      ],
    ],
    [
      'C.4: requests in Huffman code',
      requests,
      ['828684418cf1e3c2e5f23a6ba0ab90f4ff', '828684be5886a8eb10649cbf', '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf'],
    ],
    [
      'C.5: responses, with eviction',
      responses,
      [
        tableOf256 +
          '4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d',
        '4803333037c1c0bf',
        '88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31',
      ],
    ],
    [
      'C.6: responses in Huffman code, with eviction',
      responses,
      [
        tableOf256 + '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
        '4883640effc1c0bf',
        '88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
      ],
    ],
  ])('%s', (_, expected, blocks) => {
    const decoder = new FieldDecoder(limits)
    expect(blocks.map((block) => decoder.decode(hex(block)))).toEqual(expected)
  })
})

describe('the table', () => {
  it('holds no field that is larger than it, and none of what it held', () => {
    const decoder = new FieldDecoder({ ...limits, maxTableBytes: 256 })
    decoder.decode(hex(`${tableOf256} 400161 0162`))
    expect(decoder.decode(hex('be'))).toEqual(['a', 'b'])
    const long = 'x'.repeat(300)
    expect(decoder.decode(Buffer.concat([hex('400161 7fad01'), Buffer.from(long)]))).toEqual(['a', long])
    expect(() => decoder.decode(hex('be'))).toThrow(new FieldBlockError('broken field block: the table has no field 62', false))
  })

  it('has 4096 bytes before its limit, if that is smaller, is known to the peer', () => {
    const decoder = new FieldDecoder({ ...limits, maxTableBytes: 32 })
    expect(decoder.decode(hex('400161 0162 400163 0164 bf be'))).toEqual(['a', 'b', 'c', 'd', 'a', 'b', 'c', 'd'])
    expect(() => decoder.decode(hex('20 be'))).toThrow('no field 62')
  })

  it.each([
    [68, '3f25', 2],
    [67, '3f24', 1],
  ])('of %i bytes holds what fits of fields of 34 bytes', (_, size, count) => {
    const decoder = new FieldDecoder(limits)
    decoder.decode(hex(`${size} 400161 0162 400163 0164`))
    expect(decoder.decode(hex(count === 2 ? 'be bf' : 'be'))).toEqual(['c', 'd', 'a', 'b'].slice(0, count * 2))
    expect(() => decoder.decode(Buffer.from([0x80 + 62 + count]))).toThrow(`no field ${62 + count}`)
  })

  it('gives a name that the field it is of loses its place for', () => {
    const decoder = new FieldDecoder(limits)
    // A table of 40 bytes holds one field of 34.
    decoder.decode(hex('3f09 400161 0162'))
    expect(decoder.decode(hex('7e0163 be'))).toEqual(['a', 'c', 'a', 'c'])
  })

  it('forgets all at a size of 0, and takes two sizes in a row', () => {
    const decoder = new FieldDecoder(limits)
    decoder.decode(hex('400161 0162'))
    expect(decoder.decode(hex('20 3fe11f 82'))).toEqual([':method', 'GET'])
    expect(() => decoder.decode(hex('be'))).toThrow('no field 62')
    expect(new FieldDecoder(limits).decode(hex('20'))).toEqual([])
  })

  it('finds every field by its age while it evicts', () => {
    const decoder = new FieldDecoder({ ...limits, maxTableBytes: 10_000 })
    decoder.decode(hex('3ff14d')) // 10,000 bytes
    const names = Array.from({ length: 1000 }, (_, i) => `n${i}`)
    for (const [added, name] of names.entries()) {
      decoder.decode(Buffer.concat([hex('40'), Buffer.from([name.length]), Buffer.from(name), hex('00')]))
      const known = Math.min(added + 1, 65)
      const block = Buffer.from(Array.from({ length: known }, (_, i) => 0x80 | (62 + i)))
      expect(decoder.decode(block).filter((_, i) => i % 2 === 0)).toEqual(names.slice(added + 1 - known, added + 1).toReversed())
    }
  })
})

describe('a broken block', () => {
  it.each([
    ['index 0', '80', 'no field 0'],
    ['an index beyond the static table', 'be', 'no field 62'],
    ['an index beyond all', 'ffffffff07', 'no field'],
    ['a name of no field', '7e0161', 'no field 62'],
    ['a size behind a field', '8220', 'changes behind a field'],
    ['a size above the limit', '3fe21f', 'a table of 4097 bytes'],
    ['a cut off index', 'ff', 'a number is cut off'],
    ['a cut off index with more to come', 'ff80', 'a number is cut off'],
    ['too long a number', 'ff80808080808000', 'a number is too large'],
    ['too large a number', 'ffffffffff7f', 'a number is too large'],
    ['a missing name', '40', 'a string is missing'],
    ['a missing value', '400161', 'a string is missing'],
    ['a cut off name', '400261', 'a string is cut off'],
    ['a cut off value', '400161 0361', 'a string is cut off'],
    ['a length beyond all', '400161 7fffffffff03', 'a string is cut off'],
    ['a value that is no Huffman code', '400161 8100', 'no Huffman code'],
  ])('is refused: %s', (_, block, message) => {
    const failure = attempt(() => new FieldDecoder(limits).decode(hex(block)))
    expect(failure.message).toContain(message)
    expect(failure.tooLarge).toBe(false)
  })

  it('ends every prefix of a block with an error or with fields', () => {
    const whole = hex('828684418cf1e3c2e5f23a6ba0ab90f4ff4088 25a849e95ba97d7f 89 25a849e95bb8e8b4bf')
    const lengths = Array.from({ length: whole.length + 1 }, (_, bytes) => {
      try {
        return new FieldDecoder(limits).decode(whole.subarray(0, bytes)).length
      } catch (error) {
        expect(error).toBeInstanceOf(FieldBlockError)
        return undefined
      }
    })
    expect(lengths.filter((length) => length !== undefined)).toEqual([0, 2, 4, 6, 8, 10])
  })

  it('throws nothing else, whatever the bytes', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc
        .array(fc.constantFrom(0x00, 0x3f, 0x40, 0x7f, 0x81, 0x82, 0x8f, 0xbe, 0xbf, 0xff, 0x01, 0x61, 0x1f), { maxLength: 300 })
        .map((list) => Uint8Array.from(list)),
    )
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 5 }), (blocks) => {
        const decoder = new FieldDecoder({ maxTableBytes: 4096, maxListBytes: 1000 })
        for (const block of blocks) {
          try {
            const fields = decoder.decode(Buffer.from(block))
            expect(fields.reduce((sum, text) => sum + text.length + 16, 0)).toBeLessThanOrEqual(1000)
          } catch (error) {
            if (!(error instanceof FieldBlockError)) throw error
          }
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('a list larger than allowed', () => {
  it('is refused, and the table is in step', () => {
    const decoder = new FieldDecoder({ ...limits, maxListBytes: 100 })
    const failure = attempt(() => decoder.decode(hex('400161 0162 400163 0164 400165 0166')))
    expect(failure.tooLarge).toBe(true)
    expect(failure.message).toBe('header fields of 102 bytes; no more than 100 are allowed')
    expect(decoder.decode(hex('be c0'))).toEqual(['e', 'f', 'a', 'b'])
  })

  it('is one of many empty fields as well', () => {
    const decoder = new FieldDecoder({ ...limits, maxListBytes: 64 * 32 })
    const empty = hex('100000')
    expect(decoder.decode(Buffer.concat(Array.from({ length: 64 }, () => empty)))).toHaveLength(128)
    expect(attempt(() => decoder.decode(Buffer.concat(Array.from({ length: 100_000 }, () => empty)))).tooLarge).toBe(true)
    // One byte each, of a field of 4,000.
    const decoderOfLarge = new FieldDecoder(limits)
    decoderOfLarge.decode(Buffer.concat([hex('400161 7fa11e'), Buffer.alloc(4000, 'x')]))
    expect(attempt(() => decoderOfLarge.decode(Buffer.alloc(16_384, 0xbe))).tooLarge).toBe(true)
  })
})

it('decodes what the encoder writes', () => {
  const text = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)), maxLength: 300 })
  const name = fc.oneof(text, fc.constantFrom(':status', 'content-type', ':path', 'grpc-status', ':method'))
  const value = fc.oneof(text, fc.constantFrom('200', 'application/grpc', '0', 'GET', ''))
  fc.assert(
    fc.property(fc.array(fc.tuple(name, value), { maxLength: 20 }), (pairs) => {
      expect(new FieldDecoder(limits).decode(encodeFields(pairs.flat()))).toEqual(pairs.flat())
    }),
  )
})

function attempt(act: () => unknown): FieldBlockError {
  try {
    act()
  } catch (error) {
    if (error instanceof FieldBlockError) return error
    throw error
  }
  throw new Error('expected a FieldBlockError')
}
