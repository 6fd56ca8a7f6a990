import { expect, it } from 'vitest'
import { HuffmanDecoder } from '../../src/http2/huffman.ts'

const decoder = new HuffmanDecoder()
const decodeHex = (hex: string): string | undefined => decoder.decode(Buffer.from(hex, 'hex'), 0, hex.length / 2)
/** @param bits as text, at whose end ones fill up the last byte */
const decodeBits = (bits: string): string | undefined => {
  const filled = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1')
  return decodeHex(filled.replaceAll(/.{4}/g, (four) => Number.parseInt(four, 2).toString(16)))
}

it.each([
  ['f1e3c2e5f23a6ba0ab90f4ff', 'www.example.com'],
  ['a8eb10649cbf', 'no-cache'],
  ['9d29ad171863c78f0b97c8e9ae82ae43d3', 'https://www.example.com'],
  ['640eff', '307'],
  ['', ''],
])('decodes %s, of RFC 7541, Appendix C', (hex, text) => {
  expect(decodeHex(hex)).toBe(text)
})

it.each([
  [0, '1111111111000'],
  [1, '11111111111111111011000'],
  [9, '111111111111111111101010'],
  [10, '111111111111111111111111111100'],
  [22, '111111111111111111111111111110'],
  [0x30, '00000'],
  [0x74, '01001'],
  [0x20, '010100'],
  [0x5c, '1111111111111110000'],
  [0x58, '11111100'],
  [0x7e, '1111111111101'],
  [0x80, '11111111111111100110'],
  [0xf9, '1111111111111111111111111110'],
  [0xff, '11111111111111111111101110'],
])('decodes the octet %i as RFC 7541, Appendix B, lists it', (octet, code) => {
  const text = String.fromCharCode(octet)
  expect(decodeBits(code)).toBe(text)
  const befores = { '': '', '0': '00000', '00': '0000000000', '0X': '0000011111100', 'X%0': '1111110001010100000' }
  for (const [before, bits] of Object.entries(befores)) {
    expect(decodeBits(bits + code)).toBe(before + text)
    expect(decodeBits(bits + code + bits + code)).toBe(before + text + before + text)
  }
})

it.each([
  ['padding of 8 bits', 'ff'],
  ['padding of 11 bits', '07ff'],
  ['padding of 29 bits', '07ffffffff'],
  ['padding of zeros', '00'],
  ['padding with a zero in it', '06'],
  ['the end of a string alone', 'fffffffc'],
  ['the end of a string and padding', 'ffffffff'],
  ['the end of a string behind text', '07fffffff9'],
  ['a cut off code', 'ffffff'],
])('refuses %s', (_, hex) => {
  expect(decodeHex(hex)).toBeUndefined()
})

it('takes padding of 0 to 7 ones', () => {
  // 5 bits each: 8 of them leave no padding.
  for (let count = 1; count <= 16; count++) expect(decodeBits('00000'.repeat(count))).toBe('0'.repeat(count))
  // 8 bits each.
  expect(decodeBits('11111100'.repeat(3))).toBe('XXX')
})

it('reads only what it is told to, and long text as well', () => {
  expect(decoder.decode(Buffer.from('aaa8eb10649cbfaa', 'hex'), 1, 7)).toBe('no-cache')
  expect(decodeBits('00000'.repeat(100_000))).toBe('0'.repeat(100_000))
})
