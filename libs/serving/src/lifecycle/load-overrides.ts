import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, normalize, sep } from 'node:path'
import { MeshError } from '@spillway/core'
import type { ModelConfig } from '../config/model-config.ts'
import type { ModelConfigParsers } from '../config/parse-model-config.ts'
import type { LoadOverrides } from '../models.ts'
import { DirectorySource } from './directory-source.ts'
import type { SourceModel, SourceVersion } from './source.ts'

/** A model made of a request's files and config. */
export interface OverriddenModel {
  readonly model: SourceModel
  /** It is not loaded from any more: its files go with the last version that stands on them. Rejects where they cannot be removed. */
  readonly dispose: () => Promise<void>
}

/** A folder that stays as long as versions that were loaded from it do, since their workers may be started anew. */
class RequestFolder {
  readonly #path: string
  #uses = 0
  #disposed = false

  constructor(path: string) {
    this.#path = path
  }

  hold(version: SourceVersion): SourceVersion {
    return {
      ...version,
      fetch: async (signal) => {
        const files = await version.fetch(signal)
        this.#uses++
        let released = false
        const release = async (): Promise<void> => {
          if (released) return
          released = true
          this.#uses--
          await this.#removeIfUnused()
        }
        return { ...files, release }
      },
    }
  }

  async dispose(): Promise<void> {
    this.#disposed = true
    await this.#removeIfUnused()
  }

  async #removeIfUnused(): Promise<void> {
    if (this.#disposed && this.#uses === 0) await rm(this.#path, { recursive: true, force: true })
  }
}

/**
 * The model with the request's config, from the request's files where it brings any: then nothing of the repository counts (Triton's rule for `file:` parameters).
 * @param found what the source has; called only where no files come
 */
export async function overriddenModel(
  name: string,
  { config, files = new Map() }: LoadOverrides,
  found: () => Promise<SourceModel>,
  { parseConfigJson, parseConfig }: ModelConfigParsers,
): Promise<OverriddenModel> {
  const own = config === undefined ? undefined : parseConfigJson(config, name)
  if (files.size === 0) return { model: withConfig(await found(), own, config), dispose: () => Promise.resolve() }
  const folder = await mkdtemp(join(tmpdir(), 'spillway-load-'))
  const kept = new RequestFolder(folder)
  try {
    for (const [path, content] of files) {
      const target = join(folder, checkedPath(path))
      await mkdir(dirname(target), { recursive: true })
      await writeFile(target, content)
    }
    const source = new DirectorySource({ listed: [{ name, basePath: folder }], settleMs: 0, parseConfig })
    const model = await source.model(name)
    const versions = model.versions.map((version) => kept.hold(version))
    return { model: withConfig({ ...model, versions }, own, config), dispose: () => kept.dispose() }
  } catch (error) {
    await kept.dispose()
    throw error
  }
}

function withConfig(model: SourceModel, config: ModelConfig | undefined, text: string | undefined): SourceModel {
  return config === undefined ? model : { ...model, config, fingerprint: `${model.fingerprint}\0${text}` }
}

function checkedPath(path: string): string {
  const normal = normalize(path)
  if (normal.startsWith('..') || normal.startsWith(sep) || normal.includes('\0') || /^[a-zA-Z]:/.test(normal) || normal === '.')
    throw new MeshError('INVALID_ARGUMENT', `file "${path}" does not lie in the model's folder: expected a path as 1/model.onnx`, {
      field: `file:${path}`,
    })
  return normal
}
