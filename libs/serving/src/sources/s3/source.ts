import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { type Clock, MeshError, systemClock } from '@spillway/core'
import type { ModelConfig } from '../../config/model-config.ts'
import type { LocalVersion, ModelSource, SourceModel, SourceVersion } from '../../lifecycle/source.ts'
import { completeMarker, type FilesLook, isSettled, type Settling, unfinishedMarker } from '../../lifecycle/version-files.ts'
import { newestFirst, versionOf } from '../../lifecycle/version-policy.ts'
import type { S3Client, S3Object } from './client.ts'

export interface S3SourceOptions {
  readonly client: S3Client
  /** Of the address: '' for the whole bucket. */
  readonly prefix: string
  /** As messages name it: `s3://bucket/prefix`. */
  readonly name: string
  /** Where versions are downloaded to; a folder of its own in the system's for temporary files, removed at its end, where absent. */
  readonly cacheFolder?: string
  readonly parseConfig?: (text: string, model: string) => ModelConfig
  /** How long nothing of a version may have changed before it is taken as complete; default 1,000. */
  readonly settleMs?: number
  readonly clock?: Clock
}

const layout = '<prefix>/<model>/<version>/model.onnx, the version a positive whole number'
const configFile = 'config.pbtxt'

/** Of folders whose download is under way. */
const comingPrefix = '.coming-'

/** A model's objects by version, and those beside them; paths below each. */
interface Objects {
  readonly versions: ReadonlyMap<string, ReadonlyMap<string, S3Object>>
  readonly own: ReadonlyMap<string, S3Object>
}

/** Models in a bucket, in the layout of a repository's folders. A version's files come to this machine, whole or not at all, when it is loaded. */
export class S3Source implements ModelSource {
  readonly #options: S3SourceOptions
  readonly #clock: Clock
  readonly #settling = new Map<string, Settling>()
  readonly #configs = new Map<string, { readonly etag: string; readonly config: ModelConfig | undefined }>()
  /** Names of folders that stand for what the bucket has, by model. */
  readonly #current = new Map<string, ReadonlySet<string>>()
  /** How many loaded versions stand on a folder. */
  readonly #uses = new Map<string, number>()
  #ownCache: Promise<string> | undefined

  constructor(options: S3SourceOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  get description(): string {
    return `the model repository ${this.#options.name}`
  }

  get settleMs(): number {
    return this.#options.settleMs ?? 1000
  }

  async names(signal: AbortSignal): Promise<readonly string[]> {
    const { folders } = await this.#options.client.list(this.#key(''), false, signal)
    return folders.filter((name) => !name.startsWith('.')).toSorted()
  }

  async model(name: string, signal: AbortSignal): Promise<SourceModel> {
    if (name === '' || /[/\\\0]|^\./.test(name)) throw new MeshError('INVALID_ARGUMENT', `"${name}" is no model name`)
    const prefix = this.#key(`${name}/`)
    const { objects } = await this.#options.client.list(prefix, true, signal)
    const { versions: found, own } = sorted(objects, prefix)
    if (found.size === 0)
      throw new MeshError('NOT_FOUND', `model "${name}" has no version in ${this.#options.name}/${name}: expected ${layout}`)
    const config = await this.#config(name, own.get(configFile), signal)
    const versions: SourceVersion[] = []
    const unsettled: string[] = []
    for (const [version, files] of [...found].toSorted(([a], [b]) => newestFirst(a, b))) {
      const fingerprint = fingerprintOf(files)
      if (this.#isComplete(`${name}/${version}`, files, fingerprint))
        versions.push({ version, fingerprint, fetch: (signal) => this.#fetch(name, version, files, own, signal) })
      else unsettled.push(version)
    }
    await this.#follow(name, found, own)
    return { name, config, fingerprint: fingerprintOf(own), labels: new Map(), versions, unsettled }
  }

  async #config(name: string, object: S3Object | undefined, signal: AbortSignal): Promise<ModelConfig | undefined> {
    const { parseConfig, client } = this.#options
    if (object === undefined || parseConfig === undefined) return void this.#configs.delete(name)
    const known = this.#configs.get(name)
    if (known?.etag === object.etag) return known.config
    const text = await client.text(object, signal)
    try {
      const config = parseConfig(text, name)
      this.#configs.set(name, { etag: object.etag, config })
      return config
    } catch (thrown) {
      const { code, message, field } = MeshError.from(thrown, 'INVALID_ARGUMENT')
      const path = `${this.#options.name}/${name}/${configFile}`
      throw new MeshError(code, `${path}: ${message}`, { cause: thrown, ...(field !== undefined && { field }) })
    }
  }

  #isComplete(path: string, files: ReadonlyMap<string, S3Object>, fingerprint: string): boolean {
    const nowMs = this.#clock.nowMs()
    const before = this.#settling.get(path)
    if (isSettled(lookAt(files, fingerprint), before, nowMs, this.settleMs)) {
      this.#settling.delete(path)
      return true
    }
    if (before?.fingerprint !== fingerprint) this.#settling.set(path, { fingerprint, sinceMs: nowMs })
    return false
  }

  async #fetch(
    name: string,
    version: string,
    files: ReadonlyMap<string, S3Object>,
    own: ReadonlyMap<string, S3Object>,
    signal: AbortSignal,
  ): Promise<LocalVersion> {
    const cache = await this.#cache()
    const folder = join(cache, name, folderOf(version, files))
    const modelFolder = join(cache, name, folderOf('model', own))
    for (const path of [folder, modelFolder]) this.#uses.set(path, (this.#uses.get(path) ?? 0) + 1)
    let released = false
    const release = async (): Promise<void> => {
      if (released) return
      released = true
      for (const path of [folder, modelFolder]) await this.#release(path, this.#current.get(name)?.has(basename(path)) === true)
    }
    try {
      await this.#download(folder, files, signal)
      await this.#download(modelFolder, own, signal)
    } catch (error) {
      await release()
      throw error
    }
    let fileBytes = 0
    for (const { bytes } of files.values()) fileBytes += bytes
    return { folder, modelFolder, fileBytes, release }
  }

  /** Whole or not at all: what is under way has another name. */
  async #download(folder: string, files: ReadonlyMap<string, S3Object>, signal: AbortSignal): Promise<void> {
    if (await exists(folder)) return
    await mkdir(dirname(folder), { recursive: true })
    const scratch = await mkdtemp(join(dirname(folder), comingPrefix))
    try {
      for (const [path, object] of files) {
        const target = join(scratch, path)
        await mkdir(dirname(target), { recursive: true })
        await this.#options.client.download(object, target, signal)
      }
      await rename(scratch, folder).catch(async (error: unknown) => {
        // Another process was faster.
        if (!(await exists(folder))) throw error
      })
    } finally {
      await rm(scratch, { recursive: true, force: true })
    }
  }

  /** A folder that nothing stands on is removed, but from a cache that is to be kept only where the bucket has others now. */
  async #release(folder: string, isCurrent: boolean): Promise<void> {
    const uses = (this.#uses.get(folder) ?? 1) - 1
    if (uses > 0) return void this.#uses.set(folder, uses)
    this.#uses.delete(folder)
    if (this.#options.cacheFolder === undefined || !isCurrent) await rm(folder, { recursive: true, force: true })
  }

  /** Notes what the bucket has of a model; at the first look, what a kept cache has of it besides is removed. */
  async #follow(name: string, versions: Objects['versions'], own: Objects['own']): Promise<void> {
    const current = new Set([folderOf('model', own), ...Array.from(versions, ([version, files]) => folderOf(version, files))])
    const isFirst = !this.#current.has(name)
    this.#current.set(name, current)
    const { cacheFolder } = this.#options
    if (cacheFolder === undefined || !isFirst) return
    const found = await readdir(join(cacheFolder, name)).catch(() => [])
    // Another process may be downloading.
    for (const folder of found.filter((folder) => !current.has(folder) && !folder.startsWith(comingPrefix)))
      await rm(join(cacheFolder, name, folder), { recursive: true, force: true })
  }

  #cache(): Promise<string> {
    const { cacheFolder } = this.#options
    if (cacheFolder !== undefined) return Promise.resolve(cacheFolder)
    return (this.#ownCache ??= mkdtemp(join(tmpdir(), 'spillway-models-')))
  }

  /** Removes what it downloaded, unless it was told where to. */
  async close(): Promise<void> {
    const folder = await this.#ownCache
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  }

  #key(below: string): string {
    const { prefix } = this.#options
    return prefix === '' ? below : `${prefix}/${below}`
  }
}

/** A key that would lie outside of its folder, or is a folder's own, is left aside. */
function sorted(objects: readonly S3Object[], prefix: string): Objects {
  const versions = new Map<string, Map<string, S3Object>>()
  const own = new Map<string, S3Object>()
  for (const object of objects) {
    const parts = object.key.slice(prefix.length).split('/')
    if (parts.some((part) => part === '' || part === '.' || part === '..' || /[\\\0]/.test(part))) continue
    const version = parts.length > 1 ? versionOf(parts[0]!) : undefined
    if (version === undefined) own.set(parts.join('/'), object)
    else {
      let files = versions.get(version)
      if (files === undefined) versions.set(version, (files = new Map()))
      files.set(parts.slice(1).join('/'), object)
    }
  }
  return { versions, own }
}

function fingerprintOf(files: ReadonlyMap<string, S3Object>): string {
  return Array.from(files, ([path, { bytes, etag }]) => `${path}\0${bytes}\0${etag}`)
    .toSorted()
    .join('\n')
}

function lookAt(files: ReadonlyMap<string, S3Object>, fingerprint: string): FilesLook {
  let totalBytes = 0
  let changedMs = 0
  let newestMs = 0
  for (const [path, object] of files) {
    totalBytes += object.bytes
    changedMs = Math.max(changedMs, object.changedMs)
    if (path !== completeMarker) newestMs = Math.max(newestMs, object.changedMs)
  }
  const marked = files.get(completeMarker)
  return {
    fingerprint,
    totalBytes,
    changedMs,
    unfinished: files.has(unfinishedMarker),
    complete: marked !== undefined && marked.changedMs >= newestMs,
  }
}

function folderOf(what: string, files: ReadonlyMap<string, S3Object>): string {
  return `${what}-${digest(fingerprintOf(files))}`
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
