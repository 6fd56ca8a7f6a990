import { type FSWatcher, watch } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, MeshError, systemClock } from '@spillway/core'
import type { ModelConfig, VersionPolicy } from '../config/model-config.ts'
import { layoutText, type LocalVersion, type ModelSource, type SourceModel, type SourceVersion } from './source.ts'
import { type FilesLook, isSettled, lookAtFiles, type Settling } from './version-files.ts'
import { newestFirst, versionOf } from './version-policy.ts'

/** A model that lies outside a repository, as TensorFlow Serving's `model_config_list` names it. */
export interface ListedModel {
  readonly name: string
  /** Folder of its versions: `basePath/123/`. */
  readonly basePath: string
  /** The config's, else the latest, where absent. */
  readonly policy?: VersionPolicy
  /** Versions that labels stand for as soon as they are loaded, by label. */
  readonly labels?: ReadonlyMap<string, string>
}

export interface DirectorySourceOptions {
  /** Folder of `<model>/<version>/`, with `<model>/config.pbtxt` where it is wanted. */
  readonly repository?: string
  readonly listed?: readonly ListedModel[]
  /** Reads a `config.pbtxt`; without it such files are left aside. @throws MeshError whose field is the setting's path in the file. */
  readonly parseConfig?: (text: string, model: string) => ModelConfig
  /** How long nothing of a version may have changed before it is taken as complete; default 1,000. */
  readonly settleMs?: number
  readonly clock?: Clock
}

const configFile = 'config.pbtxt'

/** Models in folders: Triton's repository, TensorFlow Serving's base paths, or both. Names that begin with a dot are left aside. */
export class DirectorySource implements ModelSource {
  readonly #options: DirectorySourceOptions
  readonly #clock: Clock
  readonly #listed: ReadonlyMap<string, ListedModel>
  /** What is being written, by model and by the version's folder. */
  readonly #settling = new Map<string, ReadonlyMap<string, Settling>>()

  constructor(options: DirectorySourceOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#listed = new Map((options.listed ?? []).map((model) => [model.name, model]))
  }

  get settleMs(): number {
    return this.#options.settleMs ?? 1000
  }

  get description(): string {
    const { repository } = this.#options
    return repository === undefined ? `the list of ${this.#listed.size} models` : `the model repository ${repository}`
  }

  async names(): Promise<readonly string[]> {
    const { repository } = this.#options
    const own = repository === undefined ? [] : await folders(repository, 'the model repository')
    return [...new Set([...own, ...this.#listed.keys()])].toSorted()
  }

  async model(name: string): Promise<SourceModel> {
    const listed = this.#listed.get(name)
    const folder = listed?.basePath ?? this.#folderOf(name)
    const found = await folders(folder, `model "${name}"`)
    const config = await this.#config(folder, name)
    const versions: SourceVersion[] = []
    const unsettled: string[] = []
    const before = this.#settling.get(name)
    const settling = new Map<string, Settling>()
    for (const [version, path] of versionFolders(found, folder)) {
      const look = await this.#look(path, before?.get(path), settling)
      if (look === undefined) unsettled.push(version)
      else versions.push({ version, fingerprint: look.fingerprint, fetch: () => Promise.resolve(localVersion(path, folder, look)) })
    }
    if (settling.size > 0) this.#settling.set(name, settling)
    else this.#settling.delete(name)
    if (versions.length + unsettled.length === 0)
      throw new MeshError('NOT_FOUND', `model "${name}" has no version in ${folder}: expected ${layoutText}`)
    return {
      name,
      config,
      fingerprint: await ownFingerprint(folder, config),
      ...(listed?.policy === undefined ? {} : { policy: listed.policy }),
      labels: listed?.labels ?? new Map(),
      versions,
      unsettled,
    }
  }

  #folderOf(name: string): string {
    if (name === '' || /[/\\\0]|^\./.test(name))
      throw new MeshError('INVALID_ARGUMENT', `"${name}" is no model name: it is the name of a folder`)
    const { repository } = this.#options
    if (repository === undefined) throw new MeshError('NOT_FOUND', `Request for unknown model: '${name}' is not found`)
    return join(repository, name)
  }

  async #config(folder: string, name: string): Promise<ModelConfig | undefined> {
    const { parseConfig } = this.#options
    const path = join(folder, configFile)
    const text = parseConfig === undefined ? undefined : await readFile(path, 'utf8').catch(absent)
    if (text === undefined) return undefined
    try {
      return parseConfig!(text, name)
    } catch (thrown) {
      const { code, message, field } = MeshError.from(thrown, 'INVALID_ARGUMENT')
      throw new MeshError(code, `${path}: ${message}`, { cause: thrown, ...(field === undefined ? {} : { field }) })
    }
  }

  /** Undefined while the version is being written: then `settling` has it. */
  async #look(path: string, before: Settling | undefined, settling: Map<string, Settling>): Promise<FilesLook | undefined> {
    const nowMs = this.#clock.nowMs()
    const look = await lookAtFiles(path).catch((error: unknown) => {
      throw new MeshError('UNAVAILABLE', `${path} cannot be read: ${(error as Error).message}`, { cause: error })
    })
    if (isSettled(look, before, nowMs, this.settleMs)) return look
    settling.set(path, before?.fingerprint === look.fingerprint ? before : { fingerprint: look.fingerprint, sinceMs: nowMs })
    return undefined
  }

  /** The operating system's word where it has one; network file systems mostly have none. */
  watch(changed: () => void): () => void {
    const { repository } = this.#options
    const roots = [...(repository === undefined ? [] : [repository]), ...Array.from(this.#listed.values(), ({ basePath }) => basePath)]
    const watchers: FSWatcher[] = []
    for (const root of roots) {
      try {
        const watcher = watch(root, { recursive: true, persistent: false }, changed)
        // A watch that ends is no loss: looking goes on.
        watcher.on('error', () => watcher.close())
        watchers.push(watcher)
      } catch {
        // The same: the folder may not be there yet, or the system's limit of watches be reached.
        continue
      }
    }
    return () => {
      for (const watcher of watchers) watcher.close()
    }
  }
}

/** Newest first. Of two folders that name the same version (`7`, `007`) the first by name is it. */
function versionFolders(names: readonly string[], folder: string): readonly (readonly [string, string])[] {
  const found = new Map<string, string>()
  for (const name of names.toSorted()) {
    const version = versionOf(name)
    if (version !== undefined && !found.has(version)) found.set(version, join(folder, name))
  }
  return [...found].toSorted(([a], [b]) => newestFirst(a, b))
}

function localVersion(folder: string, modelFolder: string, { totalBytes }: FilesLook): LocalVersion {
  return { folder, modelFolder, fileBytes: totalBytes, release: () => Promise.resolve() }
}

/** Of what a load reads beside the version's folder. */
async function ownFingerprint(folder: string, config: ModelConfig | undefined): Promise<string> {
  if (config === undefined) return ''
  const labelFiles = [...(config.inputs ?? []), ...(config.outputs ?? [])].flatMap(({ labelFile }) => labelFile ?? [])
  const parts: string[] = []
  for (const name of [configFile, ...labelFiles]) {
    const stats = await stat(join(folder, name)).catch(absent)
    parts.push(`${name}\0${stats?.size}\0${stats?.mtimeMs}`)
  }
  if (config.warmup.length > 0) parts.push((await lookAtFiles(join(folder, 'warmup')).catch(absent))?.fingerprint ?? '')
  return parts.join('\n')
}

async function folders(path: string, what: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && !entry.name.startsWith('.'))
      .map((entry) => entry.name)
  } catch (error) {
    const { code = 'error' } = error as NodeJS.ErrnoException
    // Gone is an answer; anything else (a lost mount, a denied folder) is not knowing.
    const kind = code === 'ENOENT' || code === 'ENOTDIR' ? 'NOT_FOUND' : 'UNAVAILABLE'
    throw new MeshError(kind, `${what} cannot be read at ${path} (${code}): expected ${layoutText}`, { cause: error })
  }
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
  return undefined
}
