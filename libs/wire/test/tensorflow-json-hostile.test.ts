import { type ColumnType, type Datatype, MeshError } from '@spillway/core'
import fc from 'fast-check'
import { describe, test, expect } from 'vitest'
import { decodeExamples, decodePredict, type TensorTypes } from '../src/mod.ts'

function types(inputs: Readonly<Record<string, readonly [Datatype, ...number[]]>>): TensorTypes {
  const entries = Object.entries(inputs).map(([name, [datatype, ...rowShape]]): [string, ColumnType] => [name, { datatype, rowShape }])
  return { inputs: new Map(entries) }
}

describe('hostile bodies', () => {
  const several = types({ tag: ['BYTES'], signal: ['FP32', -1], sensor: ['INT64', 2, 2] })
  const decoders = [decodePredict, decodeExamples]

  function decode(body: Uint8Array): void {
    for (const decoder of decoders)
      for (const expected of [several, types({ x: ['FP32', 3] }), types({ x: ['BYTES'] }), types({ x: ['INT8', -1, -1] })]) {
        try {
          decoder(body, expected)
        } catch (error) {
          if (!(error instanceof MeshError) || error.code !== 'INVALID_ARGUMENT') throw error
        }
      }
  }

  test('whatever comes, a body is read or refused as INVALID_ARGUMENT', () => {
    const leaf = fc.oneof(fc.double(), fc.integer(), fc.string(), fc.boolean(), fc.constant(null), fc.record({ b64: fc.string() }))
    const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small' },
        leaf,
        fc.array(tie('tree'), { maxLength: 4 }),
        fc.dictionary(fc.constantFrom('x', 'tag', 'signal', 'sensor', 'b64', '__proto__'), tie('tree'), { maxKeys: 4 }),
      ),
    }))
    const key = fc.constantFrom('instances', 'inputs', 'examples', 'context', 'signature_name', 'parameters')
    fc.assert(
      fc.property(fc.dictionary(key, tree, { maxKeys: 3 }), (body) => decode(Buffer.from(JSON.stringify(body) ?? ''))),
      { numRuns: 2_000 },
    )
  })

  test('so is a good body that was cut, damaged or doubled somewhere', () => {
    const good =
      '{"signature_name": "serving_default", "instances": [{"tag": "a\\u00e9", "signal": [1.5, NaN, 2e3], "sensor": [[1, 2], [3, 9007199254740993]]}]}'
    const change = fc.tuple(fc.nat({ max: good.length - 1 }), fc.constantFrom('cut', 'drop', 'set', 'double'), fc.nat({ max: 255 }))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let body = Buffer.from(good)
        for (const [at, kind, byte] of changes) {
          const index = Math.min(at, body.length - 1)
          if (index < 0) break
          if (kind === 'cut') body = body.subarray(0, index)
          else if (kind === 'drop') body = Buffer.concat([body.subarray(0, index), body.subarray(index + 1)])
          else if (kind === 'double') body = Buffer.concat([body, body.subarray(index)])
          else body[index] = byte
        }
        decode(body)
      }),
      { numRuns: 3_000 },
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), decode), { numRuns: 500 })
  })

  test.each([
    ['deep lists', `{"instances": ${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`],
    ['deep objects', `{"parameters": ${'{"a":'.repeat(500_000)}1${'}'.repeat(500_000)}, "instances": [1]}`],
    ['a wide list of empty lists', `{"instances": [${'[],'.repeat(1_000_000)}[]]}`],
    ['a number of a million digits', `{"instances": [${'9'.repeat(1_000_000)}]}`],
    ['a million signs of base64 that is none', `{"instances": [{"b64": "${'='.repeat(1_000_000)}x"}]}`],
    ['a context that many examples share', `{"context": {"x": [${'1,'.repeat(100_000)}1]}, "examples": [${'{},'.repeat(100_000)}{}]}`],
  ])('%s: refused at once', (_what, text) => {
    const body = Buffer.from(text)
    const startedMs = performance.now()
    decode(body)
    expect(performance.now() - startedMs).toBeLessThan(10_000)
  })
})
