import { readFile } from 'node:fs/promises'
import { relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MeshError } from '@spillway/core'
import { type CompileOptions, fileRequests, moduleRequests, parseStatistics } from '@spillway/features'
import type { PipelineDefinition } from './pipeline-schema.ts'
import { asStageModule, type StageModule } from './stage-module.ts'

/** What a pipeline file names outside of itself, loaded. */
export interface Attachments {
  /** One an entry of `stages:`. */
  readonly stages: readonly StageModule[]
  /** The features' modules and files of words by their paths, and their statistics. */
  readonly features: Pick<CompileOptions, 'modules' | 'files' | 'statistics'>
  /** The statistics are still to be fitted. */
  readonly unfitted: boolean
}

/**
 * @param unfitted where statistics are still to be made: their file is not read
 * @throws MeshError INVALID_ARGUMENT whose `field` is the path in the file
 */
export async function loadAttachments(definition: PipelineDefinition, folder: string, unfitted: boolean): Promise<Attachments> {
  const stages: StageModule[] = []
  for (const [index, { module, export: name }] of definition.stages.entries()) {
    const exports = await importModule(folder, module, `stages[${index}].module`)
    if (!Object.hasOwn(exports, name))
      throw new MeshError(
        'INVALID_ARGUMENT',
        `${module} exports no "${name}": it exports ${Object.keys(exports).join(', ') || 'nothing'}`,
        {
          field: name === 'default' ? `stages[${index}].module` : `stages[${index}].export`,
        },
      )
    stages.push(asStageModule(exports[name], `export "${name}" of ${module}`, `stages[${index}].module`))
  }
  return { stages, features: await loadForFeatures(definition.features, folder, unfitted), unfitted }
}

/** For a file that names nothing outside of itself. @throws MeshError INVALID_ARGUMENT where it does */
export function nothingAttached({ stages, features }: PipelineDefinition): Attachments {
  const named = [
    ...(stages.length > 0 ? ['stages'] : []),
    ...(features?.statistics === undefined ? [] : ['features.statistics']),
    ...(moduleRequests(features).length + fileRequests(features).length > 0 ? ['features.columns'] : []),
  ]
  if (named.length > 0)
    throw new MeshError('INVALID_ARGUMENT', 'it names other files, which are only read beside a pipeline file: use loadPipeline', {
      field: named[0]!,
    })
  return { stages: [], features: {}, unfitted: false }
}

async function loadForFeatures(
  features: PipelineDefinition['features'],
  folder: string,
  unfitted: boolean,
): Promise<Attachments['features']> {
  const modules = new Map<string, Readonly<Record<string, unknown>>>()
  for (const module of moduleRequests(features)) {
    const column = Object.entries(features!.columns).find(([, definition]) => definition.module === module)![0]
    modules.set(module, await importModule(folder, module, `features.columns.${column}.module`))
  }
  const files = new Map<string, string>()
  for (const file of fileRequests(features)) files.set(file, await readText(folder, file, 'features.columns'))
  if (unfitted || features?.statistics === undefined) return { modules, files }
  const text = await readText(folder, features.statistics, 'features.statistics')
  try {
    return { modules, files, statistics: parseStatistics(text, features.statistics) }
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', MeshError.from(error).message, { field: 'features.statistics', cause: error })
  }
}

/** @param field path in the pipeline file, for messages */
async function readText(folder: string, file: string, field: string): Promise<string> {
  try {
    return await readFile(resolve(folder, file), 'utf8')
  } catch (error) {
    const hint = field === 'features.statistics' ? ': make it with "spillway features fit"' : ''
    throw new MeshError('INVALID_ARGUMENT', `${file} cannot be read: ${firstLine(error)}${hint}`, { field, cause: error })
  }
}

/** @param field path in the pipeline file, for messages */
async function importModule(folder: string, module: string, field: string): Promise<Readonly<Record<string, unknown>>> {
  const path = resolve(folder, module)
  try {
    return (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${relative('', path)} cannot be loaded: ${firstLine(error)}`, { field, cause: error })
  }
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0]!
}
