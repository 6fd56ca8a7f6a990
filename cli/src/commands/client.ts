import { readFile } from 'node:fs/promises'
import { MeshError, parseDurationMs } from '@spillway/core'
import type { Command } from 'commander'
import { parseCount } from '../options.ts'

const gateway = ['--gateway <url>', 'where the gateway listens', 'http://127.0.0.1:8080'] as const

export function definePredict(command: Command): void {
  command
    .argument('<event>', 'the event as JSON, or @FILE')
    .requiredOption('--pipeline <name>', 'the pipeline')
    .option('--timeout <duration>', 'latest useful answer, as in 50ms')
    .option(...gateway)
    .action(async (event: string, flags: { gateway: string; pipeline: string; timeout?: string }) => {
      const headers: Record<string, string> =
        flags.timeout === undefined ? {} : { 'x-spillway-timeout-ms': String(parseDurationMs(flags.timeout)) }
      const body = `{"event":${await eventText(event)}}`
      console.log(await answer(`${flags.gateway}/v1/pipelines/${encodeURIComponent(flags.pipeline)}:predict`, body, headers))
    })
}

export function definePublish(command: Command): void {
  command
    .argument('<topic>')
    .argument('<event>', 'the event as JSON, or @FILE')
    .option(...gateway)
    .action(async (topic: string, event: string, flags: { gateway: string }) => {
      console.log(await answer(`${flags.gateway}/v1/topics/${encodeURIComponent(topic)}/events`, await eventText(event), {}))
    })
}

export function defineSubscribe(command: Command): void {
  command
    .argument('<topic>')
    .option('--from <position>', 'earliest or latest', 'latest')
    .option('--count <number>', 'stop after this many', parseCount)
    .option(...gateway)
    .action(subscribe)
}

async function eventText(event: string): Promise<string> {
  return event.startsWith('@') ? readFile(event.slice(1), 'utf8') : event
}

async function answer(url: string, body: string, headers: Readonly<Record<string, string>>): Promise<string> {
  const response = await reach(url, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } })
  const text = await response.text()
  if (!response.ok) throw refusal(response.status, text)
  return text
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (error) {
    const { origin } = new URL(url)
    throw new MeshError(
      'UNAVAILABLE',
      `no gateway answers at ${origin}: start one with "spillway up", or give its address with --gateway`,
      { cause: error },
    )
  }
}

function refusal(status: number, body: string): MeshError {
  return new MeshError(status < 500 ? 'INVALID_ARGUMENT' : 'UNAVAILABLE', `the gateway answered ${status}: ${body.trim()}`)
}

async function subscribe(topic: string, flags: { gateway: string; from: string; count?: number }): Promise<void> {
  const stopping = new AbortController()
  process.once('SIGINT', () => stopping.abort())
  process.once('SIGTERM', () => stopping.abort())
  const url = `${flags.gateway}/v1/topics/${encodeURIComponent(topic)}/events?from=${encodeURIComponent(flags.from)}`
  const response = await reach(url, { headers: { accept: 'text/event-stream' }, signal: stopping.signal })
  if (!response.ok || response.body === null) throw refusal(response.status, await response.text())
  let left = flags.count ?? Infinity
  let rest = ''
  try {
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        if (!line.startsWith('data:')) continue
        console.log(line.slice('data:'.length).trimStart())
        if (--left === 0) return stopping.abort()
      }
    }
  } catch (error) {
    if (stopping.signal.aborted) return
    throw new MeshError('UNAVAILABLE', `the gateway at ${flags.gateway} went away`, { cause: error })
  }
  if (!stopping.signal.aborted) throw new MeshError('UNAVAILABLE', `the gateway at ${flags.gateway} ended the subscription`)
}
