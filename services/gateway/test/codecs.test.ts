import { assert, array, base64String, constantFrom, json, jsonValue, nat, oneof, property, string, tuple } from 'fast-check'
import { expect, it } from 'vitest'
import { elementSlices, lineSlices, memberSlices, parseJson } from '../src/json-slices.ts'
import { decodePosition, encodePosition } from '../src/position.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
const spaces = constantFrom('', ' ', '\n\t', '\r\n ')

it('slices arrays and objects into exactly the texts that they were made of', () => {
  assert(
    property(array(tuple(string(), json(), spaces)), (members) => {
      const elements = `[${members.map(([, value, space]) => space + value + space).join(',')}]`
      expect(elementSlices(Buffer.from(elements)).map(text)).toEqual(members.map(([, value]) => value))
      const object = `{${members.map(([name, value, space]) => `${space}${JSON.stringify(name)}${space}:${space}${value}${space}`).join(',')}}`
      const slices = memberSlices(Buffer.from(object))
      expect([...slices].map(([name, value]) => [name, text(value)])).toEqual([...new Map(members.map(([name, value]) => [name, value]))])
    }),
  )
})

it('agrees with JSON.parse on pretty-printed values', () => {
  assert(
    property(array(jsonValue()), (values) => {
      const { bytes } = parseJson(Buffer.from(`\uFEFF${JSON.stringify(values, undefined, 2)}`), 'it')
      expect(elementSlices(bytes).map((slice) => JSON.parse(text(slice)) as unknown)).toEqual(JSON.parse(JSON.stringify(values)))
    }),
  )
})

it('slices lines, blank ones left out', () => {
  expect(lineSlices(Buffer.from('a\n\r\n  \n b\r\nc')).map(text)).toEqual(['a', ' b', 'c'])
  expect(lineSlices(Buffer.from(''))).toEqual([])
})

it('reads back the positions that it wrote, and refuses any other text', () => {
  assert(
    property(array(nat({ max: Number.MAX_SAFE_INTEGER }), { minLength: 1, maxLength: 200 }), (offsets) => {
      expect(decodePosition('t', encodePosition('t', offsets), 'id')).toEqual(offsets)
      expect(() => decodePosition('u', encodePosition('t', offsets), 'id')).toThrow('another topic')
    }),
  )
  assert(
    property(oneof(string(), base64String()), (token) => {
      try {
        expect(decodePosition('t', token, 'id').every(Number.isSafeInteger)).toBe(true)
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', field: 'id' })
      }
    }),
  )
})
