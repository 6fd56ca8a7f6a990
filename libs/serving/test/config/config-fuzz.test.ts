import { MeshError } from '@spillway/core'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { parseModelConfig, parseModelConfigJson } from '../../src/config/parse-model-config.ts'
import { parseModelList } from '../../src/config/parse-model-list.ts'

/** Pieces of configurations, right and wrong, in any order. */
const piece = fc.constantFrom(
  ...'name input output dims data_type version_policy latest specific versions num_versions parameters key value dynamic_batching'.split(
    ' ',
  ),
  ...'default_queue_policy model_warmup inputs ensemble_scheduling step input_map instance_group kind model_config_list config'.split(' '),
  ...'base_path version_labels max_batch_size reshape optimization execution_accelerators : { } < > [ ] , ; " \' "m" "\\x" \\'.split(' '),
  ...'0 -1 1 99999999999999999999999 0x 1e309 -inf nan TYPE_FP32 KIND_GPU true __proto__ constructor \u0000 "\\U00110000"'.split(' '),
  ' ',
  ': ',
  '\n',
  '# x\n',
  '"a" "b"',
)
const soup = fc.array(fc.oneof(piece, fc.string({ unit: 'binary', maxLength: 3 })), { maxLength: 60 }).map((parts) => parts.join(''))

const names = [
  'name',
  'input',
  'dims',
  'data_type',
  'parameters',
  'versionPolicy',
  'specific',
  'versions',
  'model_warmup',
  'inputs',
  '__proto__',
]
const { value: json } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<unknown>(null, true, -1, 1.5, 1e300, '', 'm', 'TYPE_FP32', '12', 'REJECT'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom(...names), tie('value'), { maxKeys: 5 }),
  ),
}))

/** Reads, or refuses with an error that says what is wrong: never anything else. */
function readsOrRefuses(read: () => unknown): void {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(/./) as unknown })
  }
}

it('no text makes the parsers of text fail otherwise than by a refusal', () => {
  fc.assert(
    fc.property(soup, (text) => {
      readsOrRefuses(() => parseModelConfig(text, 'm'))
      readsOrRefuses(() => parseModelList(text, '/models'))
      readsOrRefuses(() => parseModelList(`model_config_list { config { ${text} } }`, '/models'))
    }),
    { numRuns: 2000 },
  )
})

it('nor does any JSON', () => {
  fc.assert(
    fc.property(json, soup, (value, text) => {
      readsOrRefuses(() => parseModelConfigJson(JSON.stringify(value), 'm'))
      readsOrRefuses(() => parseModelConfigJson(text, 'm'))
    }),
    { numRuns: 2000 },
  )
})
