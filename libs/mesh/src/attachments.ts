import { relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MeshError } from '@spillway/core'
import type { PipelineDefinition } from './pipeline-schema.ts'
import { asStageModule, type StageModule } from './stage-module.ts'

/** What a pipeline file names outside of itself, loaded. */
export interface Attachments {
  /** One an entry of `stages:`. */
  readonly stages: readonly StageModule[]
}

/** @throws MeshError INVALID_ARGUMENT whose `field` is the path in the file */
export async function loadAttachments(definition: PipelineDefinition, folder: string): Promise<Attachments> {
  const stages: StageModule[] = []
  for (const [index, { module, export: name }] of definition.stages.entries()) {
    const exported = await loadExport(folder, module, name, `stages[${index}]`)
    stages.push(asStageModule(exported, `export "${name}" of ${module}`, `stages[${index}].module`))
  }
  return { stages }
}

/** For a file that names nothing outside of itself. @throws MeshError INVALID_ARGUMENT where it does */
export function nothingAttached(definition: PipelineDefinition): Attachments {
  if (definition.stages.length > 0)
    throw new MeshError('INVALID_ARGUMENT', 'its modules are loaded from the file alone: use loadPipeline', { field: 'stages' })
  return { stages: [] }
}

/** @param at path of the setting in the file, which has `module` and `export` */
async function loadExport(folder: string, module: string, name: string, at: string): Promise<unknown> {
  const path = resolve(folder, module)
  let exports: Readonly<Record<string, unknown>>
  try {
    exports = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${relative('', path)} cannot be loaded: ${firstLine(error)}`, {
      field: `${at}.module`,
      cause: error,
    })
  }
  if (!Object.hasOwn(exports, name)) {
    const known = Object.keys(exports)
    throw new MeshError('INVALID_ARGUMENT', `${module} exports no "${name}": it exports ${known.join(', ') || 'nothing'}`, {
      field: name === 'default' ? `${at}.module` : `${at}.export`,
    })
  }
  return exports[name]
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0]!
}
