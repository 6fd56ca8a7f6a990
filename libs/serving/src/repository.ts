import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError } from '@spillway/core'

/** A version of a model as it lies in the repository. */
export interface ModelFile {
  readonly model: string
  /** As the folder is called, without leading zeros. */
  readonly version: string
  /** `<repository>/<model>/<version>/model.onnx` */
  readonly path: string
}

const layout = '<repository>/<model>/<version>/model.onnx, the version a positive whole number'

/** Names of the models in the repository, sorted. @throws MeshError NOT_FOUND where the folder cannot be read. */
export async function modelNames(repository: string): Promise<string[]> {
  const names = await folders(repository, 'the model repository')
  if (names.length === 0) throw new MeshError('NOT_FOUND', `the model repository ${repository} has no models: expected ${layout}`)
  return names.toSorted()
}

/** The largest version of the model. @throws MeshError NOT_FOUND naming the path and what was expected there. */
export async function latestVersion(repository: string, model: string): Promise<ModelFile> {
  if (model === '' || /[/\\]|^\.\.?$/.test(model))
    throw new MeshError('INVALID_ARGUMENT', `"${model}" is no model name: it is the name of a folder`)
  const folder = join(repository, model)
  const names = await folders(folder, `model "${model}"`)
  const versions = names.filter((name) => /^\d+$/.test(name) && BigInt(name) > 0n).toSorted((a, b) => (BigInt(a) < BigInt(b) ? 1 : -1))
  const [latest] = versions
  if (latest === undefined) throw new MeshError('NOT_FOUND', `model "${model}" has no version in ${folder}: expected ${layout}`)
  const path = join(folder, latest, 'model.onnx')
  const found = await stat(path).catch(() => undefined)
  if (found?.isFile() !== true) throw new MeshError('NOT_FOUND', `${path} is missing or no file: expected ${layout}`)
  if (found.size === 0) throw new MeshError('FAILED_PRECONDITION', `${path} is empty: expected an ONNX model`)
  return { model, version: String(BigInt(latest)), path }
}

async function folders(path: string, what: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && !entry.name.startsWith('.'))
      .map((entry) => entry.name)
  } catch (error) {
    const { code = 'error' } = error as NodeJS.ErrnoException
    throw new MeshError('NOT_FOUND', `${what} cannot be read at ${path} (${code}): expected ${layout}`, { cause: error })
  }
}
