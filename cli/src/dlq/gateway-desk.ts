import { isCode, MeshError } from '@spillway/core'
import type { DeadLetterDesk, DeadLetterDetail, DeadLetterFilter, DeadLetterPage, Settled, Settlement } from '@spillway/mesh'

/** A pipeline's dead letters through its running gateway: where the bus is embedded, the way to them while the mesh runs. */
export class GatewayDesk implements DeadLetterDesk {
  private readonly url: string

  constructor(gateway: string, pipeline: string) {
    this.url = `${gateway.replace(/\/+$/, '')}/v1/pipelines/${encodeURIComponent(pipeline)}/dead-letters`
  }

  async list(
    filter: DeadLetterFilter,
    page: { readonly after?: string; readonly limit: number },
    signal: AbortSignal,
  ): Promise<DeadLetterPage> {
    const { fromMs, toMs, ...texts } = filter
    const query = new URLSearchParams({ ...texts, limit: String(page.limit) })
    if (fromMs !== undefined) query.set('from', new Date(fromMs).toISOString())
    if (toMs !== undefined) query.set('to', new Date(toMs).toISOString())
    if (page.after !== undefined) query.set('after', page.after)
    return (await this.ask(`?${query.toString()}`, { signal })) as DeadLetterPage
  }

  async show(position: string, signal: AbortSignal): Promise<DeadLetterDetail> {
    return (await this.ask(`/${encodeURIComponent(position)}`, { signal })) as DeadLetterDetail
  }

  async settle(positions: readonly string[], { outcome, ...how }: Settlement, signal: AbortSignal): Promise<Settled> {
    const body = JSON.stringify({ positions, ...how })
    const verb = outcome === 'redriven' ? 'redrive' : 'drop'
    return (await this.ask(`:${verb}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body, signal })) as Settled
  }

  private async ask(path: string, init: RequestInit & { readonly signal: AbortSignal }): Promise<unknown> {
    let response: Response
    let text: string
    try {
      response = await fetch(this.url + path, init)
      text = await response.text()
    } catch (error) {
      init.signal.throwIfAborted()
      throw new MeshError(
        'UNAVAILABLE',
        `no gateway answers at ${new URL(this.url).origin}: give its address with --gateway, or the bus's with --bus`,
        { cause: error },
      )
    }
    if (!response.ok) throw refusal(response.status, text)
    return JSON.parse(text)
  }
}

function refusal(status: number, text: string): MeshError {
  const { error } = parsed(text) as { error?: { code?: unknown; message?: unknown; field?: unknown } }
  if (error === undefined || !isCode(error.code))
    return new MeshError('UNAVAILABLE', `the gateway answered ${status}: ${text.trim().slice(0, 500)}`)
  return new MeshError(error.code, String(error.message), typeof error.field === 'string' ? { field: error.field } : {})
}

function parsed(text: string): object {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : {}
  } catch {
    // Something between us and the gateway answered.
    return {}
  }
}
