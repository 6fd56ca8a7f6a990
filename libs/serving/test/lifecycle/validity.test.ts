import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ModelManager, SignatureExpectation } from '../../src/mod.ts'
import { logistic, logisticModel, mlpModel, onnxModel, writeModel } from '../onnx-builder.ts'
import { refusal } from '../refusal.ts'
import { ask, eventually, states, TestBed, versionOf, weights } from './served-models.ts'

let bed: TestBed
beforeEach(async () => {
  bed = await TestBed.make()
})
afterEach(() => bed.close())

const golden = (model: string, version: number, content: unknown): Promise<void> =>
  writeFile(join(bed.repository, model, String(version), 'golden.json'), typeof content === 'string' ? content : JSON.stringify(content))

const row = [1, 2, 3]
const request = (score: unknown, more: object = {}): object => ({
  inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 3], data: [row] }],
  outputs: [{ name: 'score', datatype: 'FP32', shape: [1, 1], data: [score] }],
  ...more,
})

const config = async (model: string, content: string): Promise<void> => {
  await mkdir(join(bed.repository, model), { recursive: true })
  await writeFile(join(bed.repository, model, 'config.pbtxt'), content)
}

/** The error that the newest version was refused with. */
const refusedWith = (manager: ModelManager, model: string): MeshError | undefined => manager.statuses(model)[0]?.error

describe('golden requests', () => {
  test('hold within their tolerance, and the version takes traffic', async () => {
    await bed.write('a', 1, 0.25)
    const expected = logistic(weights, 0.25, row)
    await golden('a', 1, { requests: [request(expected), request(expected + 5e-4, { tolerance: 1e-3 })] })
    expect(await versionOf(await bed.started(), 'a')).toBe('1')
  })

  test('that do not hold refuse the version, naming the element, and the running one stays', async () => {
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'poll', settleMs: 300 })
    await bed.write('a', 2, 0.5)
    await golden('a', 2, { requests: [request(logistic(weights, 0.5, row) + 0.01)] })
    await eventually(() => states(manager, 'a')).toEqual(['2:END', '1:AVAILABLE'])
    expect(refusedWith(manager, 'a')).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(
        /golden\.json: requests\[0\]: output "score" differs in 1 of 1 rows by more than 0\.000001: element 0 is 0\.\d+, expected/,
      ) as string,
    })
    expect(await versionOf(manager, 'a')).toBe('1')
    // Corrected, it is served: the file is one of the version's.
    await golden('a', 2, { requests: [request(logistic(weights, 0.5, row))] })
    await eventually(() => versionOf(manager, 'a')).toBe('2')
  })

  test.each([
    ['no JSON', '{', /golden\.json: /],
    ['no requests', {}, /expected \{"requests"/],
    [
      'no data',
      { requests: [{ inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 3] }], outputs: [] }] },
      /requests\[0\]: tensor "features" has no "data"/,
    ],
    [
      'too few elements',
      { requests: [{ inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 3], data: [1] }], outputs: [] }] },
      /requests\[0\]: tensor "features": .* needs 3 elements, got 1/,
    ],
    [
      'no datatype',
      { requests: [{ inputs: [{ name: 'features', datatype: 'float', shape: [1, 3], data: row }], outputs: [] }] },
      /requests\[0\]: tensor "features": unknown datatype "float"/,
    ],
    [
      'an input of another shape',
      { requests: [{ inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [1, 2] }], outputs: [] }] },
      /requests\[0\] fails: .*"features"/,
    ],
    [
      'an output of another shape',
      { requests: [{ ...request(0), outputs: [{ name: 'score', datatype: 'FP32', shape: [1], data: [0.5] }] }] },
      /output "score" is FP32 of shape \[1, 1\]: expected FP32 of shape \[1\]/,
    ],
    [
      'an output that there is not',
      { requests: [{ ...request(0), outputs: [{ name: 'label', datatype: 'FP32', shape: [1], data: [0.5] }] }] },
      /no output "label"/,
    ],
    [
      'a number that the datatype cannot have',
      { requests: [{ ...request(0), outputs: [{ name: 'score', datatype: 'INT8', shape: [1, 1], data: [300] }] }] },
      /requests\[0\]: tensor "score": 300 is out of the range of INT8/,
    ],
    ['a tolerance below 0', { requests: [request(0.5, { tolerance: -1 })] }, /requests\[0\]: tolerance: expected a number/],
    ['NaN for a number', JSON.stringify({ requests: [request('NaN')] }).replace('"NaN"', 'NaN'), /is 0\.\d+, expected NaN/],
  ])('with %s refuse the version and say so', async (_what, content, message) => {
    await bed.write('a', 1)
    await golden('a', 1, content)
    const error = await refusal(() => bed.started())
    expect(error).toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(error.message).toMatch(message)
  })

  test('have 64-bit integers, strings and truth values exactly', async () => {
    const same = onnxModel({
      inputs: [
        { name: 'id', datatype: 'INT64', shape: ['rows'] },
        { name: 'name', datatype: 'BYTES', shape: ['rows'] },
        { name: 'flag', datatype: 'BOOL', shape: ['rows'] },
      ],
      outputs: [
        { name: 'id2', datatype: 'INT64', shape: ['rows'] },
        { name: 'name2', datatype: 'BYTES', shape: ['rows'] },
        { name: 'flag2', datatype: 'BOOL', shape: ['rows'] },
      ],
      nodes: ['id', 'name', 'flag'].map((name) => ({ op: 'Identity', inputs: [name], outputs: [`${name}2`] })),
    })
    const tensors = (suffix: string, id: string): string =>
      `[{"name":"id${suffix}","datatype":"INT64","shape":[1],"data":[${id}]},{"name":"name${suffix}","datatype":"BYTES","shape":[1],"data":["ä"]},` +
      `{"name":"flag${suffix}","datatype":"BOOL","shape":[1],"data":[true]}]`
    const content = (id: string): string => `{"requests":[{"inputs":${tensors('', '9007199254740993')},"outputs":${tensors('2', id)}}]}`
    await writeModel(bed.repository, 'same', 1, same)
    await golden('same', 1, content('9007199254740993'))
    await bed.started()
    await golden('same', 1, content('9007199254740992'))
    expect((await refusal(() => bed.started())).message).toMatch(/element 0 is 9007199254740993, expected 9007199254740992/)
  })
})

describe('what callers need of a signature', () => {
  test('refuses a version that has it not, and the running one stays', async () => {
    const narrow: SignatureExpectation = ({ inputs }) => {
      if (inputs.get('features')?.rowShape[0] !== 3) throw new MeshError('INVALID_ARGUMENT', 'the pipeline gives 3 features')
    }
    await bed.write('a', 1)
    const manager = await bed.started({ mode: 'poll', expects: new Map([['a', narrow]]) })
    await writeModel(bed.repository, 'a', 2, logisticModel([1, 2], 0))
    await eventually(() => states(manager, 'a')).toEqual(['2:END', '1:AVAILABLE'])
    expect(refusedWith(manager, 'a')?.message).toBe('the pipeline gives 3 features')
    expect(await refusal(() => manager.promote('a', '2'))).toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('may be the served version’s signature, where the config says so', async () => {
    await bed.write('a', 1)
    await config('a', 'parameters { key: "same_signature" value { string_value: "true" } }')
    const manager = await bed.started({ mode: 'poll' })
    await writeModel(bed.repository, 'a', 2, logisticModel([1, 2], 0))
    await eventually(() => states(manager, 'a')).toEqual(['2:END', '1:AVAILABLE'])
    expect(refusedWith(manager, 'a')?.message).toMatch(
      /input "features" is FP32 \[rows, 2\]: version 1, which is served, has FP32 \[rows, 3\]/,
    )
    await writeModel(bed.repository, 'a', 3, mlpModel([3, 4, 1]))
    await eventually(() => versionOf(manager, 'a')).toBe('3')
  })
})

describe('a config', () => {
  test('that does not fit the file refuses the version, naming the setting', async () => {
    await bed.write('a', 1)
    const wrong: readonly [string, string, RegExp][] = [
      ['input { name: "x" data_type: TYPE_FP32 dims: 3 }', 'input[0].name', /has no input "x": its file has features/],
      ['input { name: "features" data_type: TYPE_FP32 dims: 4 }', 'input[0].dims', /FP32 \[4\] in its config, and FP32 \[3\] in its file/],
      ['output { name: "score" data_type: TYPE_FP64 dims: 1 }', 'output[0].data_type', /FP64/],
    ]
    for (const [content, field, message] of wrong) {
      await config('a', content)
      const error = await refusal(() => bed.started())
      expect(error.message).toMatch(message)
      expect(error.field).toBe(field)
    }
  })

  test('limits a run, and names classes from the file beside it', async () => {
    await writeModel(bed.repository, 'a', 1, mlpModel([3, 4, 2]))
    await config('a', 'max_batch_size: 8 output { name: "score" data_type: TYPE_FP32 dims: 2 label_filename: "classes.txt" }')
    expect(await refusal(() => bed.started())).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('classes.txt') as string,
    })
    await writeFile(join(bed.repository, 'a', 'classes.txt'), 'cat\ndog\r\n')
    const handle = await (await bed.started()).acquire('a')
    expect(handle.config.maxBatchSize).toBe(8)
    expect([...handle.classLabels]).toEqual([['score', ['cat', 'dog']]])
    handle.release()
  })

  test('that changes loads the model anew', async () => {
    await bed.write('a', 1)
    await config('a', 'max_batch_size: 8')
    const manager = await bed.started({ mode: 'poll' })
    await config('a', 'max_batch_size: 16')
    await eventually(async () => {
      const handle = await manager.acquire('a')
      handle.release()
      return handle.config.maxBatchSize
    }).toBe(16)
  })
})

describe('warm-up requests', () => {
  const input = (data: string, size = 3): string =>
    `model_warmup { name: "first" batch_size: 2 count: 3 inputs { key: "features" value { data_type: TYPE_FP32 dims: ${size} ${data} } } }`

  test.each([
    ['zeros', 'zero_data: true'],
    ['made-up data', 'random_data: true'],
    ['data of a file', 'input_data_file: "one-row"'],
  ])('of %s run before the version takes traffic', async (_what, data) => {
    await bed.write('a', 1)
    await config('a', input(data))
    await mkdir(join(bed.repository, 'a', 'warmup'))
    await writeFile(join(bed.repository, 'a', 'warmup', 'one-row'), Buffer.from(Float32Array.of(1, 2, 3).buffer))
    const manager = await bed.started()
    await ask(manager, 'a')
    // They are nobody's requests.
    expect(manager.statistics('a')).toMatchObject([{ inferenceCount: 1n, version: '1' }])
  })

  test.each([
    ['that do not fit the model', input('zero_data: true', 4), /warm-up request "first" fails: .*"features"/],
    ['of a file that is not there', input('input_data_file: "absent"'), /absent cannot be read/],
    ['of a file of another size', input('input_data_file: "short"'), /short has 8 bytes: expected 24 or 12/],
  ])('%s refuse the version', async (_what, content, message) => {
    await bed.write('a', 1)
    await config('a', content)
    await mkdir(join(bed.repository, 'a', 'warmup'))
    await writeFile(join(bed.repository, 'a', 'warmup', 'short'), Buffer.alloc(8))
    const error = await refusal(() => bed.started())
    expect(error.code).toBe('FAILED_PRECONDITION')
    expect(error.message).toMatch(message)
  })

  test('that the model fails on refuse the version', async () => {
    const lookUp = onnxModel({
      inputs: [{ name: 'index', datatype: 'INT64', shape: ['rows'] }],
      outputs: [{ name: 'value', datatype: 'FP32', shape: ['rows'] }],
      initializers: [{ name: 'table', shape: [1], data: Float32Array.of(10) }],
      nodes: [{ op: 'Gather', inputs: ['table', 'index'], outputs: ['value'] }],
    })
    await writeModel(bed.repository, 'look-up', 1, lookUp)
    await config(
      'look-up',
      'model_warmup { name: "first" inputs { key: "index" value { data_type: TYPE_INT64 input_data_file: "beyond" } } }',
    )
    await mkdir(join(bed.repository, 'look-up', 'warmup'))
    await writeFile(join(bed.repository, 'look-up', 'warmup', 'beyond'), Buffer.from(BigInt64Array.of(7n).buffer))
    expect((await refusal(() => bed.started())).message).toMatch(/warm-up request "first" fails: ONNX Runtime/)
  })
})
