import { expect, it } from 'vitest'
import { encodeFields } from '../../src/http2/field-encoder.ts'

it.each([
  ['a field of the static table', [':status', '200'], '88'],
  ['its first and its last', [':authority', '', 'www-authenticate', ''], '81bd'],
  ['one whose value is none of the table', [':path', '/sample/path'], '040c2f73616d706c652f70617468'],
  ['one whose name has a large index', ['content-type', 'a'], '0f100161'],
  ['the first name whose index takes two bytes', ['accept-charset', 'a'], '0f000161'],
  ['a name that is not in the table', ['grpc-status', '0'], '000b677270632d7374617475730130'],
  ['latin1', ['a', 'é\u00ff'], '00016102e9ff'],
  ['long latin1', ['a', 'é'.repeat(40)], `00016128${'e9'.repeat(40)}`],
  ['no fields', [], ''],
])('writes %s', (_, fields, block) => {
  expect(encodeFields(fields).toString('hex')).toBe(block)
})

it.each([
  [24, '18'],
  [25, '19'],
  [126, '7e'],
  [127, '7f00'],
  [254, '7f7f'],
  [255, '7f8001'],
  [1337, '7fba09'],
  [70_000, '7ff1a104'],
])('writes the length of a value of %i bytes', (bytes, length) => {
  const value = 'v'.repeat(bytes)
  expect(encodeFields(['n', value])).toEqual(Buffer.concat([Buffer.from(`00016e${length}`, 'hex'), Buffer.from(value)]))
})
