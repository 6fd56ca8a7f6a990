import { connect } from 'node:net'
import { gunzipSync, gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startTensorflowFixture, type TensorflowFixture } from './tensorflow-fixture.ts'

// Cases are from tensorflow.org/tfx/serving/api_rest and kserve.github.io/website ("Data Plane (V1)").
let fixture: TensorflowFixture

beforeAll(async () => {
  fixture = await startTensorflowFixture('half_plus_three', 'half_plus_two', 'sensors', 'images', 'scores', 'column', 'whole')
})
afterAll(() => fixture.stop())

describe('HTTP', () => {
  test('a content type counts for nothing, a compressed body is read, and an answer compressed where that is wanted', async () => {
    const body = `{"instances": [${'1, '.repeat(2000)}1]}`
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-8'])
      expect((await fixture.post('/v1/models/half_plus_three:predict', body, { 'content-type': type }))[0]).toBe(200)
    const [status, answer] = await fixture.post('/v1/models/half_plus_three:predict', gzipSync(body), { 'content-encoding': 'gzip' })
    expect([status, (JSON.parse(answer) as { predictions: number[] }).predictions.length]).toEqual([200, 2001])
    const raw = await rawExchange(
      `POST /v1/models/half_plus_three:predict HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    const at = raw.indexOf('\r\n\r\n')
    expect(raw.subarray(0, at).toString().toLowerCase()).toContain('content-encoding: gzip')
    expect(gunzipSync(raw.subarray(at + 4)).toString()).toBe(answer)
  })

  test('where traffic is split, requests of one key go to one version, and answers say which', async () => {
    const versionFor = async (key: string): Promise<string> => {
      const body = '{"instances": [0]}'
      const response = await fetch(`${fixture.url}/v1/models/half_plus_two:predict`, {
        method: 'POST',
        body,
        headers: { 'spillway-key': key },
      })
      const version = response.headers.get('spillway-model-version') ?? ''
      expect(await response.json()).toEqual({ predictions: [Number(version)] })
      return version
    }
    const split = ['1', '2'].map((to) => ({ to, weight: 1 }))
    fixture.models.setTraffic('half_plus_two', { split })
    const keys = Array.from({ length: 40 }, (_, index) => `customer-${index}`)
    const first = await Promise.all(keys.map(versionFor))
    expect(new Set(first)).toEqual(new Set(['1', '2']))
    expect(await Promise.all(keys.map(versionFor))).toEqual(first)
    fixture.models.setTraffic('half_plus_two', { split: [] })
    expect(await versionFor('customer-0')).toBe('3')
  })

  test('a body over the limit is 413', async () => {
    const [status, answer] = await fixture.post('/v1/models/half_plus_three:predict', `{"instances": [${'1,'.repeat(3 * 1024 * 1024)}1]}`)
    expect([status, answer]).toEqual([413, expect.stringContaining('"error"')])
  })

  test('callers share runs, and each has its own answer', async () => {
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) => fixture.post('/v1/models/half_plus_three:predict', `{"instances": [${2 * i}, ${2 * i + 2}]}`)),
    )
    answers.forEach(([status, answer], i) => expect([status, JSON.parse(answer)]).toEqual([200, { predictions: [i + 3, i + 4] }]))
  })

  test('whatever body comes is answered, and never by 500', async () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '"instances"',
      '"inputs"',
      '"examples"',
      '"x"',
      '1',
      '-1.5e3',
      'NaN',
      'null',
      '{"b64":"AA=="}',
      '\\',
      ' ',
      'ü',
    )
    const body = fc.oneof(
      fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
      fc.json(),
      fc.string(),
    )
    const path = fc.constantFrom(
      'half_plus_three:predict',
      'sensors:predict',
      'images:predict',
      'scores:classify',
      'column:regress',
      'whole:predict',
    )
    await fc.assert(
      fc.asyncProperty(path, body, async (to, text) => {
        const [status, answer] = await fixture.post(`/v1/models/${to}`, text)
        expect([200, 400]).toContain(status)
        expect(answer.length).toBeGreaterThan(0)
      }),
      { numRuns: 300, endOnFailure: true },
    )
    expect(await fixture.post('/v1/models/half_plus_three:predict', '{"instances": [1]}')).toEqual([200, '{"predictions": [3.5]}'])
  })
})

function rawExchange(request: string): Promise<Buffer> {
  const { hostname, port } = new URL(fixture.url)
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    const socket = connect(Number(port), hostname, () => socket.write(request))
    socket.on('data', (part) => parts.push(part))
    socket.on('error', reject)
    socket.on('close', () => resolve(Buffer.concat(parts)))
  })
}
