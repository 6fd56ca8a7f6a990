import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { MeshError } from '@spillway/core'
import type { Telemetry } from '@spillway/telemetry'
import { parseModelList } from '../config/parse-model-list.ts'
import { DirectorySource, type DirectorySourceOptions } from '../lifecycle/directory-source.ts'
import type { ModelSource, SourceModel } from '../lifecycle/source.ts'

export interface ModelListSourceOptions extends Omit<DirectorySourceOptions, 'repository' | 'listed'> {
  /** TensorFlow Serving's ModelServerConfig as text. */
  readonly path: string
  /** How often the file is read again, ms (`--model_config_file_poll_wait_seconds`); 0, the default, never. */
  readonly rereadMs?: number
  readonly logger: Telemetry['logger']
}

/** The models that a file lists. The file is read again as it changes; one that is malformed then changes nothing. */
export class ModelListSource implements ModelSource {
  readonly #options: ModelListSourceOptions
  #text: string | undefined
  #refused: string | undefined
  #source: DirectorySource
  /** Of whom watches now: made anew when the list's folders are others. */
  #rewatch: (() => void) | undefined

  private constructor(options: ModelListSourceOptions) {
    this.#options = options
    this.#source = new DirectorySource(options)
  }

  /** @throws MeshError NOT_FOUND where the file cannot be read, INVALID_ARGUMENT with its line and field where it is malformed */
  static async open(options: ModelListSourceOptions): Promise<ModelListSource> {
    const source = new ModelListSource(options)
    source.#follow(await source.#read())
    return source
  }

  get description(): string {
    return `the model list ${this.#options.path}`
  }

  get settleMs(): number {
    return this.#source.settleMs
  }

  names(): Promise<readonly string[]> {
    return this.#source.names()
  }

  model(name: string): Promise<SourceModel> {
    return this.#source.model(name)
  }

  /** Besides the folders' changes: reads the file again and again. */
  watch(changed: () => void): () => void {
    let end = this.#source.watch(changed)
    this.#rewatch = () => {
      end()
      end = this.#source.watch(changed)
      changed()
    }
    const { rereadMs = 0 } = this.#options
    const timer = rereadMs === 0 ? undefined : setInterval(() => void this.#readAgain(), rereadMs).unref()
    return () => {
      clearInterval(timer)
      end()
      this.#rewatch = undefined
    }
  }

  async #readAgain(): Promise<void> {
    const { logger, path } = this.#options
    try {
      const text = await this.#read()
      if (text === this.#text) return
      this.#follow(text)
      this.#refused = undefined
      logger.info({ path }, 'the list of models has changed')
      this.#rewatch?.()
    } catch (thrown) {
      const error = MeshError.from(thrown)
      if (this.#refused === error.message) return
      this.#refused = error.message
      logger.error({ path, err: error }, 'the list of models is refused: what is served stays as it is')
    }
  }

  async #read(): Promise<string> {
    const { path } = this.#options
    return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new MeshError('NOT_FOUND', `${path}: cannot read the list of models (${error.code})`, { cause: error })
    })
  }

  #follow(text: string): void {
    const { path, logger } = this.#options
    try {
      const { models, warnings } = parseModelList(text, dirname(path))
      for (const warning of warnings) logger.warn({ path }, warning)
      this.#source = new DirectorySource({ ...this.#options, listed: models })
      this.#text = text
    } catch (thrown) {
      const { code, message, field } = MeshError.from(thrown)
      throw new MeshError(code, `${path}: ${message}`, { cause: thrown, ...(field !== undefined && { field }) })
    }
  }
}
