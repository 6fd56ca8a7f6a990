import { MeshError } from '@spillway/core'
import type { ModelState } from '@spillway/model'

type Traffic = ModelState['traffic']

/** A running model service's repository and administration routes. Refusals are the server's, in one line. */
export class ModelServerClient {
  readonly #base: string

  /** @param server `http://host:port` @throws MeshError INVALID_ARGUMENT */
  constructor(server: string) {
    if (!/^https?:\/\/[^/]/.test(server) || !URL.canParse(server))
      throw new MeshError('INVALID_ARGUMENT', `--server ${server}: expected http://host:port`, { field: '--server' })
    this.#base = server.replace(/\/+$/, '')
  }

  async list(): Promise<readonly ModelState[]> {
    const { models } = await this.#call<{ models: readonly ModelState[] }>('GET', '/v2/repository/models')
    return models
  }

  show(model: string): Promise<ModelState> {
    return this.#call('GET', `/v2/repository/models/${encodeURIComponent(model)}`)
  }

  async load(model: string): Promise<void> {
    await this.#call('POST', `/v2/repository/models/${encodeURIComponent(model)}/load`)
  }

  async unload(model: string, dependents: boolean): Promise<void> {
    const parameters = { parameters: { unload_dependents: dependents } }
    await this.#call('POST', `/v2/repository/models/${encodeURIComponent(model)}/unload`, parameters)
  }

  promote(model: string, version: string): Promise<ModelState> {
    return this.#call('POST', `/v2/repository/models/${encodeURIComponent(model)}/promote`, { version })
  }

  rollback(model: string): Promise<ModelState> {
    return this.#call('POST', `/v2/repository/models/${encodeURIComponent(model)}/rollback`)
  }

  /** @param version undefined takes the label away */
  async label(model: string, label: string, version: string | undefined): Promise<void> {
    const path = `/v2/models/${encodeURIComponent(model)}/labels/${encodeURIComponent(label)}`
    await (version === undefined ? this.#call('DELETE', path) : this.#call('PUT', path, { version }))
  }

  traffic(model: string): Promise<Traffic> {
    return this.#call('GET', `/v2/models/${encodeURIComponent(model)}/traffic`)
  }

  setTraffic(model: string, traffic: Traffic): Promise<Traffic> {
    return this.#call('PUT', `/v2/models/${encodeURIComponent(model)}/traffic`, traffic)
  }

  async #call<T>(method: string, path: string, body?: object): Promise<T> {
    const init = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await fetch(this.#base + path, { method, ...init }).catch((error: unknown) => {
      const message = `no model service answers at ${this.#base}: start one with "spillway serve model", or give its address with --server`
      throw new MeshError('UNAVAILABLE', message, { cause: error })
    })
    const text = await response.text()
    if (!response.ok) throw new MeshError(response.status < 500 ? 'INVALID_ARGUMENT' : 'UNAVAILABLE', errorText(text, response.status))
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
}

function errorText(body: string, status: number): string {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    if (typeof error === 'string') return error.replaceAll(/\s*\n\s*/g, ' ')
  } catch {
    // Not this server's: what it said is all there is to show.
  }
  return `the server answered ${status}: ${body.slice(0, 200).replaceAll(/\s+/g, ' ').trim()}`
}
