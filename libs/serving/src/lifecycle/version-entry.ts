import type { MeshError } from '@spillway/core'
import type { VersionState, VersionStatus } from '../models.ts'
import { retryDelayMs } from './retry-delay.ts'

/**
 * What became of a version. START: it is to be loaded. LOADING. AVAILABLE. UNLOADING: calls that have it still go on. END: it is unloaded, or was refused and has an
 * error. An AVAILABLE one may have an error too: of newer files of the same version, which were refused.
 */
export class VersionEntry {
  readonly version: string
  #state: VersionState = 'START'
  #error: MeshError | undefined
  /** Of the files of the latest try. */
  #tried: string | undefined
  #failures = 0
  #retryAtMs = 0

  constructor(version: string) {
    this.version = version
  }

  get state(): VersionState {
    return this.#state
  }

  get error(): MeshError | undefined {
    return this.#error
  }

  /** @param labels of the model: versions by label */
  status(model: string, labels: ReadonlyMap<string, string>): VersionStatus {
    const error = this.#error
    const own = [...labels].filter(([, of]) => of === this.version).map(([label]) => label)
    return { model, version: this.version, state: this.#state, ...(error === undefined ? {} : { error }), labels: own }
  }

  loading(fingerprint: string): void {
    this.#tried = fingerprint
    if (this.#state !== 'AVAILABLE') this.#state = 'LOADING'
  }

  served(): void {
    this.#state = 'AVAILABLE'
    this.#error = undefined
    this.#failures = 0
    this.#retryAtMs = 0
  }

  refused(error: MeshError, nowMs: number): void {
    this.#error = error
    this.#retryAtMs = nowMs + retryDelayMs(++this.#failures)
    if (this.#state !== 'AVAILABLE') this.#state = 'END'
  }

  /** @returns what is to be called when nobody has it any more */
  unloading(): () => void {
    this.#state = 'UNLOADING'
    this.#tried = undefined
    this.#error = undefined
    return () => {
      if (this.#state === 'UNLOADING') this.#state = 'END'
    }
  }

  /** It is loaded when it is called. @param error why not now */
  putOff(error: MeshError): void {
    this.#tried = undefined
    this.#error = error
    if (this.#state !== 'AVAILABLE') this.#state = 'END'
  }

  /**
   * After a failure the same files are not tried again, unless the error says that another attempt may succeed; others are, each time after a longer wait, since
   * files that change all the time would otherwise be loaded all the time.
   */
  mayTry(fingerprint: string, nowMs: number): boolean {
    if (this.#error === undefined) return true
    return nowMs >= this.#retryAtMs && (this.#tried !== fingerprint || this.#error.retryable)
  }

  forgive(): void {
    this.#error = undefined
    this.#tried = undefined
    this.#retryAtMs = 0
  }
}
