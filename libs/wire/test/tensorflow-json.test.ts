import { type ColumnType, type Datatype, type FixedData, type Tensor, textColumn, textValues } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodePredict, encodeClassification, encodePrediction, encodeRegression, type TensorTypes } from '../src/mod.ts'

function types(inputs: Readonly<Record<string, readonly [Datatype, ...number[]]>>): TensorTypes {
  const entries = Object.entries(inputs).map(([name, [datatype, ...rowShape]]): [string, ColumnType] => [name, { datatype, rowShape }])
  return { inputs: new Map(entries) }
}

const bytes = (json: string): Uint8Array => Buffer.from(json)

function values(tensor: Tensor | undefined): readonly unknown[] {
  if (tensor === undefined) return []
  return tensor.datatype === 'BYTES' ? textValues(tensor.data) : [...(tensor.data as Float64Array)]
}

function fixed(datatype: Exclude<Datatype, 'BYTES'>, shape: readonly number[], data: FixedData): Tensor {
  return { datatype, shape, data }
}

const written = (outputs: Record<string, Tensor>, layout: 'rows' | 'columns'): string =>
  Buffer.from(encodePrediction(new Map(Object.entries(outputs)), layout)).toString()

describe('numbers', () => {
  test.each<[Datatype, string, unknown]>([
    ['FP32', '1', 1],
    ['FP32', '-0.5', -0.5],
    ['FP32', '0.1', Math.fround(0.1)],
    ['FP32', '0.10000000149011612', Math.fround(0.1)],
    ['FP32', '1e-45', Math.fround(1e-45)],
    ['FP32', '3.4028235e38', 3.4028234663852886e38],
    ['FP32', '12345678901234567890', Math.fround(12345678901234567e3)],
    ['FP32', '123456789012345678901234567890', Math.fround(1.2345678901234568e29)],
    ['FP32', '0.00000000000000000000000001', Math.fround(1e-26)],
    ['FP32', '-0', -0],
    ['FP32', '1E3', 1000],
    ['FP32', '1e+3', 1000],
    ['FP32', 'NaN', NaN],
    ['FP32', 'Infinity', Infinity],
    ['FP32', '-Infinity', -Infinity],
    ['FP32', 'Inf', Infinity],
    ['FP64', '0.1', 0.1],
    ['FP64', '0.30000000000000004', 0.30000000000000004],
    ['FP64', '1e308', 1e308],
    ['FP64', 'NaN', NaN],
    ['INT64', '9223372036854775807', 9223372036854775807n],
    ['INT64', '-9223372036854775808', -9223372036854775808n],
    ['INT64', '9007199254740993', 9007199254740993n],
    ['UINT64', '18446744073709551615', 18446744073709551615n],
    ['INT32', '-2147483648', -2147483648],
    ['UINT32', '4294967295', 4294967295],
    ['INT16', '-32768', -32768],
    ['UINT16', '65535', 65535],
    ['INT8', '-128', -128],
    ['UINT8', '255', 255],
    ['BOOL', 'true', 1],
    ['BOOL', 'false', 0],
    ['FP16', '1.5', 0x3e00],
    ['FP16', '65504', 0x7bff],
    ['FP16', '6e-8', 0x0001],
    ['BF16', '1', 0x3f80],
    ['BYTES', '"Zürich"', 'Zürich'],
    ['BYTES', '"\\u00fc\\n\\ud83d\\ude00"', 'ü\n😀'],
    ['BYTES', '{"b64": "Zm9v"}', 'foo'],
    ['BYTES', '{ "b64" : "" }', ''],
  ])('%s takes %s', (datatype, text, expected) => {
    const { inputs } = decodePredict(bytes(`{"instances": [ ${text} , ${text}]}`), types({ x: [datatype] }))
    expect(values(inputs.get('x'))).toEqual([expected, expected])
    expect(inputs.get('x')!.shape).toEqual([2])
  })

  test.each<[Datatype, string, string]>([
    ['FP32', '1e39', 'range of FP32'],
    ['FP32', '"1"', 'found a string at offset 15: expected a number'],
    ['FP32', 'null', 'found null'],
    ['FP32', 'true', 'found true'],
    ['FP32', '[1]', 'found a list'],
    ['FP32', '{"b64": "AAAA"}', 'found an object'],
    ['FP32', '01', 'leading zeros'],
    ['FP32', '1.', 'digits after the decimal point'],
    ['FP32', '.5', 'expected a number'],
    ['FP32', '+1', 'expected a number'],
    ['FP32', '1e', 'digits of an exponent'],
    ['FP32', '-', 'no JSON value'],
    ['FP32', '0x10', 'comma or ]'],
    ['INT64', '9223372036854775808', 'range of INT64'],
    ['INT64', '1.5', 'whole number'],
    ['INT64', '1.0', 'whole number'],
    ['INT64', '1e3', 'whole number'],
    ['INT64', 'NaN', 'whole number'],
    ['UINT64', '-1', 'range of UINT64'],
    ['UINT64', '18446744073709551616', 'range of UINT64'],
    ['INT32', '2147483648', '2147483648 is out of the range of INT32'],
    ['UINT8', '256', 'range of UINT8'],
    ['INT8', '1'.repeat(400), 'range of INT8'],
    ['BOOL', '1', 'true or false'],
    ['BYTES', '1', 'a string or {"b64": "…"}'],
    ['BYTES', '{"b64": 1}', 'base64'],
    ['BYTES', '{"b64": "a"}', 'no base64'],
    ['BYTES', '{"b64": "####"}', 'no base64'],
    ['BYTES', '{"b64": "", "x": 1}', 'base64'],
    ['BYTES', '"\u0001"', 'control character'],
    ['BYTES', '"\\x"', 'unknown escape'],
    ['BYTES', '"\\u12"', 'unknown escape'],
    ['BYTES', '"a\\ud800"', 'half of a surrogate pair'],
    ['BYTES', '"\\udc00\\ud800"', 'half of a surrogate pair'],
    ['FP16', '65520', 'expected a number in the range of FP16'],
    ['FP16', '-1e9', 'expected a number in the range of FP16'],
    ['BF16', '3.4e38', 'expected a number in the range of BF16'],
    ['BYTES', '"abc', 'closing quotation mark'],
  ])('%s refuses %s and says why', (datatype, text, message) => {
    const decode = (): unknown => decodePredict(bytes(`{"instances": [${text}]}`), types({ x: [datatype] }))
    expect(decode).toThrowError(message)
    expect(decode).toThrowError(/input "x"|JSON Parse error/)
  })

  test.each<[number, string]>([
    [3, '3.0'],
    [-3, '-3.0'],
    [0, '0.0'],
    [-0, '-0.0'],
    [0.1, '0.1'],
    [0.5, '0.5'],
    [9_000_000, '9e+06'],
    [0.00003, '3e-05'],
    [0.0001, '0.0001'],
    [123456, '123456.0'],
    [100000, '100000.0'],
    [1000000, '1e+06'],
    [1234567, '1234567.0'],
    [12345678, '12345678.0'],
    [123456792, '123456792.0'],
    [1.5e10, '1.5e+10'],
    [0.123456789, '0.12345679'],
    [3.4028234663852886e38, '3.4028235e+38'],
    [1.401298464324817e-45, '1e-45'],
    [16777216, '16777216.0'],
    [NaN, 'NaN'],
    [Infinity, 'Infinity'],
    [-Infinity, '-Infinity'],
  ])('FP32 %d is written %s', (value, text) => {
    expect(written({ y: fixed('FP32', [1], Float32Array.of(value)) }, 'rows')).toBe(`{"predictions": [${text}]}`)
  })

  test.each<[Datatype, FixedData, string]>([
    [
      'FP64',
      Float64Array.of(0.1, 1 / 3, 1e300, 1e-7, 9_000_000, 123456789.5),
      '0.1, 0.3333333333333333, 1e+300, 1e-07, 9e+06, 123456789.5',
    ],
    ['INT64', BigInt64Array.of(-9223372036854775808n, 9007199254740993n, 0n), '-9223372036854775808, 9007199254740993, 0'],
    ['UINT64', BigUint64Array.of(18446744073709551615n), '18446744073709551615'],
    ['INT8', Int8Array.of(-128, 0, 7), '-128, 0, 7'],
    ['UINT32', Uint32Array.of(4294967295), '4294967295'],
    ['BOOL', Uint8Array.of(1, 0), 'true, false'],
    ['FP16', Uint16Array.of(0x3e00, 0x7bff, 0x0001, 0xfc00), '1.5, 65504.0, 5.9604645e-08, -Infinity'],
    ['BF16', Uint16Array.of(0x3f80), '1.0'],
  ])('%s values are written', (datatype, data, text) => {
    const output = fixed(datatype as Exclude<Datatype, 'BYTES'>, [data.length], data)
    expect(written({ y: output }, 'rows')).toBe(`{"predictions": [${text}]}`)
  })

  test('every FP32 reads back as it was, in its shortest text, and every FP64', () => {
    const single = (value: number): string => written({ y: fixed('FP32', [1], Float32Array.of(value)) }, 'rows').slice(17, -2)
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const text = single(value)
        expect(Math.fround(Number(text))).toBe(value)
        expect(text).toMatch(/[.e]/)
        const shortest = [1, 2, 3, 4, 5, 6, 7, 8, 9].find((digits) => Math.fround(Number(value.toPrecision(digits))) === value) ?? 9
        const digits = text.replace(/e.*/, '').replace(/[-.]/g, '').replace(/^0+/, '').replace(/0+$/, '')
        if (!Number.isInteger(value)) expect(digits.length).toBeLessThanOrEqual(shortest)
      }),
      { numRuns: 3_000 },
    )
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const text = written({ y: fixed('FP64', [1], Float64Array.of(value)) }, 'rows').slice(17, -2)
        expect(Number(text)).toBe(value)
      }),
      { numRuns: 1_000 },
    )
  })

  test('a number of any length is read to the nearest FP32 and FP64', () => {
    const digits = fc.string({ unit: fc.constantFrom('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'), minLength: 1, maxLength: 30 })
    const number = fc.tuple(fc.boolean(), fc.nat({ max: 10 ** 9 }), digits, fc.integer({ min: -60, max: 28 }))
    fc.assert(
      fc.property(number, fc.boolean(), ([negative, whole, fraction, exponent], withExponent) => {
        const text = `${negative ? '-' : ''}${whole}.${fraction}${withExponent ? `e${exponent}` : ''}`
        const read = (datatype: Datatype): unknown =>
          values(decodePredict(bytes(`{"instances": [${text}]}`), types({ x: [datatype] })).inputs.get('x'))[0]
        const list = decodePredict(bytes(`{"instances": [[${text},${text}]]}`), types({ x: ['FP32', 2] })).inputs.get('x')
        expect(read('FP64')).toBe(Number(text))
        expect(read('FP32')).toBe(Math.fround(Number(text)))
        expect(values(list)).toEqual([Math.fround(Number(text)), Math.fround(Number(text))])
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('outputs', () => {
  const label: Tensor = { datatype: 'BYTES', shape: [2], data: textColumn(['a"b', 'ü']) }
  const pair = fixed('FP32', [2, 1, 2], Float32Array.of(1, 2, 3, 4.5))

  test('a single one goes without its name, several by name in each row', () => {
    expect(written({ y: pair }, 'rows')).toBe('{"predictions": [[[1.0,2.0]], [[3.0,4.5]]]}')
    expect(written({ y: pair }, 'columns')).toBe('{"outputs": [[[1.0,2.0]],[[3.0,4.5]]]}')
    expect(JSON.parse(written({ y: pair, label }, 'rows'))).toEqual({
      predictions: [
        { y: [[1, 2]], label: 'a"b' },
        { y: [[3, 4.5]], label: 'ü' },
      ],
    })
    expect(JSON.parse(written({ y: pair, label }, 'columns'))).toEqual({ outputs: { y: [[[1, 2]], [[3, 4.5]]], label: ['a"b', 'ü'] } })
  })

  test('bytes are base64 where the name ends in _bytes, or where they are no text', () => {
    expect(written({ image_bytes: label }, 'rows')).toBe('{"predictions": [{"b64":"YSJi"}, {"b64":"w7w="}]}')
    const noText: Tensor = { datatype: 'BYTES', shape: [1], data: { bytes: Uint8Array.of(0xff, 0xfe), offsets: Uint32Array.of(0, 2) } }
    expect(written({ y: noText }, 'rows')).toBe('{"predictions": [{"b64":"//4="}]}')
  })

  test('a scalar has no list in columns, and no place in rows', () => {
    const scalar = fixed('FP32', [], Float32Array.of(2))
    expect(written({ y: scalar }, 'columns')).toBe('{"outputs": 2.0}')
    expect(() => written({ y: scalar }, 'rows')).toThrowError('inconsistent batch size')
  })

  test('classification: scores with labels of the output, of the model, or none', () => {
    const scores = fixed('FP32', [1, 2], Float32Array.of(0.25, 0.75))
    const classify = (outputs: Record<string, Tensor>, labels: Record<string, string[]> = {}): unknown =>
      JSON.parse(Buffer.from(encodeClassification(new Map(Object.entries(outputs)), new Map(Object.entries(labels)))).toString())
    expect(classify({ p: scores })).toEqual({
      results: [
        [
          ['', 0.25],
          ['', 0.75],
        ],
      ],
    })
    expect(classify({ p: scores }, { p: ['no', 'yes'] })).toEqual({
      results: [
        [
          ['no', 0.25],
          ['yes', 0.75],
        ],
      ],
    })
    const classes: Tensor = { datatype: 'BYTES', shape: [1, 2], data: textColumn(['cat', 'dog']) }
    expect(classify({ scores, classes })).toEqual({
      results: [
        [
          ['cat', 0.25],
          ['dog', 0.75],
        ],
      ],
    })
    expect(() => classify({ a: scores, b: scores })).toThrowError('no Classification signature')
  })

  test('regression: one value a row', () => {
    const regress = (outputs: Record<string, Tensor>): string => Buffer.from(encodeRegression(new Map(Object.entries(outputs)))).toString()
    expect(regress({ y: fixed('FP64', [2, 1], Float64Array.of(3.5, 4)) })).toBe('{"results": [3.5, 4.0]}')
    expect(() => regress({ y: pair })).toThrowError('no Regression signature')
    expect(() => regress({ label })).toThrowError('no Regression signature')
  })
})
