import type { Telemetry } from '@spillway/telemetry'
import type { ConfigTree } from './config-tree.ts'
import { parseJsonTree } from './json-tree.ts'
import { openTree } from './message-reader.ts'
import type { ModelConfig } from './model-config.ts'
import { readModelConfig } from './read-model-config.ts'
import { parseTextFormat } from './text-format.ts'

export interface ParsedModelConfig {
  readonly config: ModelConfig
  /** Settings that have a meaning in Triton and none here, one line each. */
  readonly warnings: readonly string[]
}

/**
 * A `config.pbtxt`: Triton's ModelConfig in protobuf's text format.
 * @param model the name of its folder
 * @throws MeshError INVALID_ARGUMENT with line, column and field: it is malformed, has a field that there is none of, or asks for what is not to be had
 */
export function parseModelConfig(text: string, model: string): ParsedModelConfig {
  return read(parseTextFormat(text), model)
}

/** The same as JSON, as a load request's `config` parameter gives it and `/config` answers. @throws MeshError INVALID_ARGUMENT with the field */
export function parseModelConfigJson(json: string, model: string): ParsedModelConfig {
  return read(parseJsonTree(json), model)
}

function read(tree: ConfigTree, model: string): ParsedModelConfig {
  const { reader, warnings } = openTree(tree)
  return { config: readModelConfig(reader, model), warnings }
}

/** Models of which the last text is kept: beyond them all are read anew. */
const mostKept = 10_000

export interface ModelConfigParsers {
  /** Of a `config.pbtxt`. */
  readonly parseConfig: (text: string, model: string) => ModelConfig
  /** Of its content as JSON. */
  readonly parseConfigJson: (json: string, model: string) => ModelConfig
}

/** Both parsers as a source and a load request need them. A file is looked at often: it is read, and its warnings are logged, when its text is another. */
export function modelConfigParsers(logger: Telemetry['logger']): ModelConfigParsers {
  const last = new Map<string, { readonly text: string; readonly config: ModelConfig }>()
  const heard = ({ config, warnings }: ParsedModelConfig): ModelConfig => {
    for (const warning of warnings) logger.warn({ model: config.name }, `config: ${warning}`)
    return config
  }
  return {
    parseConfig: (text, model) => {
      const known = last.get(model)
      if (known?.text === text) return known.config
      if (last.size >= mostKept) last.clear()
      const config = heard(parseModelConfig(text, model))
      last.set(model, { text, config })
      return config
    },
    parseConfigJson: (json, model) => heard(parseModelConfigJson(json, model)),
  }
}
