import { MeshError, type Tensor, text, textValues } from '@spillway/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Tensors } from '../../src/mod.ts'
import { TestBed } from '../lifecycle/served-models.ts'
import { onnxModel, writeModel } from '../onnx-builder.ts'
import { infer, oneStep, writeEnsemble, writeModule } from './ensemble-files.ts'

let bed: TestBed
beforeEach(async () => {
  bed = await TestBed.make()
})
afterEach(() => bed.close())

const words = (...values: string[]): Tensors => new Map<string, Tensor>([['x', text(values)]])

const echo = `
  export const inputs = { x: { datatype: 'BYTES' } }
  export const outputs = { y: { datatype: 'BYTES' } }
`

describe('steps', () => {
  test('that do not wait for each other go on side by side', async () => {
    // Each answers when it has heard of the other.
    const meeting = `${echo}
      const channel = new BroadcastChannel('spillway-ensemble-meeting')
      const met = Promise.withResolvers()
      channel.onmessage = () => met.resolve()
      export async function run(given) {
        channel.postMessage('here')
        await met.promise
        return new Map([['y', given.get('x')]])
      }
      export const stop = () => channel.close()`
    await writeModule(bed.repository, 'left', meeting)
    await writeModule(bed.repository, 'right', meeting)
    await writeModule(
      bed.repository,
      'join',
      `export const inputs = { a: { datatype: 'BYTES' }, b: { datatype: 'BYTES' } }
      export const outputs = { both: { datatype: 'BYTES' } }
      export function run(given, { texts, textTensor }) {
        const b = texts(given.get('b'))
        return new Map([['both', textTensor(texts(given.get('a')).map((a, i) => a + '+' + b[i]))]])
      }`,
    )
    await writeEnsemble(
      bed.repository,
      'pair',
      `ensemble_scheduling { step [
        { model_name: "join" input_map { key: "a" value: "a" } input_map { key: "b" value: "b" } output_map { key: "both" value: "both" } },
        { model_name: "left" input_map { key: "x" value: "x" } output_map { key: "y" value: "a" } },
        { model_name: "right" input_map { key: "x" value: "x" } output_map { key: "y" value: "b" } } ] }`,
    )
    const models = await bed.started()
    const { both } = Object.fromEntries(await infer(models, 'pair', words('p', 'q')))
    expect(textValues((both as Tensor & { datatype: 'BYTES' }).data)).toEqual(['p+p', 'q+q'])
  })

  test('hear of it when nobody waits any more, and of the deadline', async () => {
    await writeModule(
      bed.repository,
      'slow',
      `${echo}
      const channel = new BroadcastChannel('spillway-ensemble-slow')
      export async function run(given, { signal, deadlineMs }) {
        channel.postMessage(Number.isFinite(deadlineMs) ? 'deadline' : 'none')
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        channel.postMessage('stopped')
        throw signal.reason
      }
      export const stop = () => channel.close()`,
    )
    await writeEnsemble(bed.repository, 'outer', oneStep('slow'))
    const heard: string[] = []
    const channel = new BroadcastChannel('spillway-ensemble-slow')
    channel.addEventListener('message', (event) => void heard.push(String((event as MessageEvent).data)))
    try {
      const models = await bed.started()
      const controller = new AbortController()
      const call = infer(models, 'outer', words('x'), { signal: controller.signal })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none'])
      controller.abort()
      await expect(call).rejects.toMatchObject({ code: 'CANCELLED' })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none', 'stopped'])
      await expect(infer(models, 'outer', words('x'), { deadlineMs: Date.now() + 300 })).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
      })
      await expect.poll(() => heard, { interval: 5 }).toEqual(['none', 'stopped', 'deadline', 'stopped'])
    } finally {
      channel.close()
    }
  })

  test('that refuse a row fail its request and no other, naming ensemble, step and tensor', async () => {
    await writeModule(
      bed.repository,
      'picky',
      `${echo}
      export function run(given, { texts }) {
        if (texts(given.get('x')).includes('bad')) throw Object.assign(new Error('this word is not taken'), { code: 'INVALID_ARGUMENT', field: 'x' })
        return new Map([['y', given.get('x')]])
      }`,
    )
    await writeEnsemble(bed.repository, 'inner', oneStep('picky'))
    await writeEnsemble(
      bed.repository,
      'outer',
      'ensemble_scheduling { step { model_name: "inner" input_map { key: "x" value: "word" } output_map { key: "y" value: "y" } } }',
    )
    const models = await bed.started()
    const results = await Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => infer(models, 'outer', new Map([['word', text([i === 13 ? 'bad' : `word ${i}`])]]))),
    )
    expect(results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))).toEqual([13])
    const { reason } = results[13] as PromiseRejectedResult
    expect(reason).toBeInstanceOf(MeshError)
    expect(reason).toMatchObject({
      code: 'INVALID_ARGUMENT',
      field: 'word',
      message: expect.stringMatching(
        /^ensemble "outer", step\[0\] \(model "inner"\): ensemble "inner", step\[0\] \(model "picky"\): .*this word is not taken/,
      ) as string,
    })
  })
})

test('a version of a step that takes less than the ensemble says is refused', async () => {
  const echoOf = (columns: number | string): Uint8Array =>
    onnxModel({
      inputs: [{ name: 'x', datatype: 'FP32', shape: ['rows', columns] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: ['rows', columns] }],
      nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    })
  await writeModel(bed.repository, 'wide', 1, echoOf('any'))
  await writeEnsemble(bed.repository, 'outer', oneStep('wide'))
  const models = await bed.started()
  await writeModel(bed.repository, 'wide', 2, echoOf(3))
  await expect(models.promote('wide', '2')).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringMatching(/ensemble "outer": its input "x" is FP32 \[rows, any\] and would be FP32 \[rows, 3\]/) as string,
  })
})

describe('an ensemble that cannot be', () => {
  const refused = async (): Promise<MeshError> => {
    try {
      await bed.started()
    } catch (error) {
      return error as MeshError
    }
    return expect.unreachable('it should have been refused')
  }

  test.each([
    ['made of itself', 'x', oneStep('x'), /ensemble "x": step\[0\] \(model "x"\) is the ensemble itself/],
    ['made of what is not there', 'x', oneStep('y'), /ensemble "x": step\[0\] \(model "y"\) is not loaded: .*'y'/],
  ])('because it is %s is refused, and says so', async (_, name, config, message) => {
    await writeEnsemble(bed.repository, name, config)
    expect((await refused()).message).toMatch(message)
  })

  test('because it is made of one that is made of it is refused, and says so', async () => {
    await writeEnsemble(bed.repository, 'a', oneStep('b'))
    await writeEnsemble(bed.repository, 'b', oneStep('a'))
    expect((await refused()).message).toMatch(/ensemble "[ab]": step\[0\] \(model "[ab]"\) is not loaded/)
  })
})
