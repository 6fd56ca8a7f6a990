import { resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import type { ListedModel } from '../lifecycle/directory-source.ts'
import { type MessageReader, openTree } from './message-reader.ts'
import { readVersionPolicy } from './read-version-policy.ts'
import { parseTextFormat } from './text-format.ts'

interface ParsedModelList {
  readonly models: readonly ListedModel[]
  /** Settings that have a meaning in TensorFlow Serving and none here, one line each. */
  readonly warnings: readonly string[]
}

/**
 * TensorFlow Serving's ModelServerConfig in protobuf's text format (tensorflow_serving/config/model_server_config.proto): `model_config_list`.
 * @param folder what relative base paths are relative to
 * @throws MeshError INVALID_ARGUMENT with line, column and field
 */
export function parseModelList(text: string, folder: string): ParsedModelList {
  const { reader, warnings } = openTree(parseTextFormat(text))
  reader.refused('expected model_config_list', 'custom_model_config')
  const list = reader.message('model_config_list')
  reader.end()
  if (list === undefined) throw new MeshError('INVALID_ARGUMENT', 'model_config_list is missing', { field: 'model_config_list' })
  const names = new Set<string>()
  const models = list.messages('config').map((config) => {
    const model = readModel(config, folder)
    if (names.has(model.name)) throw config.error('name', `there is a model "${model.name}" already`)
    names.add(model.name)
    return model
  })
  list.end()
  return { models, warnings }
}

const modelTypes = ['MODEL_TYPE_UNSPECIFIED', 'TENSORFLOW', 'OTHER'] as const

/** Of TensorFlow's, version folders hold a SavedModel; here they hold an ONNX file whatever the platform is called. */
const platforms: ReadonlySet<string> = new Set(['', 'onnx', 'onnxruntime_onnx', 'tensorflow'])

function readModel(config: MessageReader, folder: string): ListedModel {
  const name = config.text('name') ?? ''
  config.mustHave(name !== '' && !/[/\\\0]|^\./.test(name), 'name', `"${name}" is no name of a model`)
  const path = config.text('base_path') ?? ''
  config.mustHave(path !== '', 'base_path', 'is missing: expected the folder that has the versions')
  if (/^[a-z][a-z\d+]*:\/\//i.test(path)) throw config.error('base_path', `"${path}" is no folder on this machine`)
  const platform = config.text('model_platform') ?? ''
  if (!platforms.has(platform)) throw config.error('model_platform', `there is no platform "${platform}": expected "onnx"`)
  config.choice('model_type', modelTypes)
  const policy = readVersionPolicy(config, 'model_version_policy')
  const labels = config.versionMap('version_labels')
  config.unused('requests are not logged', 'logging_config')
  config.end()
  return { name, basePath: resolve(folder, path), ...(policy !== undefined && { policy }), ...(labels.size > 0 && { labels }) }
}
