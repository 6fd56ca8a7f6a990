import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { batchSpan, createTelemetry, currentTraceParent, parseTraceParent, withRemoteParent } from '../src/mod.ts'

const parent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
const other = '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203332-01'
const unsampled = '00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203333-00'

describe('traceparent', () => {
  it('is read as W3C Trace Context says', () => {
    expect(parseTraceParent(parent)).toMatchObject({
      traceId: parent.slice(3, 35),
      spanId: 'b7ad6b7169203331',
      traceFlags: 1,
      isRemote: true,
    })
    expect(parseTraceParent(`01${parent.slice(2)}-more`)).toBeDefined()
    const malformed = ['', 'x', `ff${parent.slice(2)}`, `${parent}-more`, parent.toUpperCase(), `00-${'0'.repeat(32)}-b7ad6b7169203331-01`]
    for (const text of malformed) expect(parseTraceParent(text)).toBeUndefined()
  })
})

describe('without an exporter', () => {
  const lines: string[] = []
  const seen = (rows: string[]): Promise<string> => batchSpan(telemetry, 'stage', {}, rows, () => Promise.resolve(currentTraceParent()))
  const telemetry = createTelemetry({
    service: 'test',
    logLevel: 'info',
    logDestination: { write: (line) => void lines.push(line) },
    otlp: false,
  })

  it('carries a remote parent through awaits, spans and log lines', async () => {
    expect(currentTraceParent()).toBe('')
    await withRemoteParent(parent, async () => {
      await new Promise((resolve) => setImmediate(resolve))
      await batchSpan(telemetry, 'stage', {}, [''], async () => expect(currentTraceParent()).toBe(parent))
      telemetry.logger.info('inside')
    })
    await withRemoteParent('nonsense', async () => expect(currentTraceParent()).toBe(''))
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'info', service: 'test', msg: 'inside', trace_id: parent.slice(3, 35) })
  })

  it('gives a batch the context that its rows share, and none where they differ', async () => {
    expect(await seen([parent])).toBe(parent)
    expect(await seen([parent, parent])).toBe(parent)
    expect(await seen([parent, other])).toBe('')
    expect(await seen([])).toBe('')
  })
})

interface OtlpSpan {
  name: string
  traceId: string
  spanId: string
  parentSpanId?: string
  links?: { traceId: string }[]
  status?: { code?: number }
}

describe('with OTLP on', () => {
  it('exports a span a batch, child of the one row or linked to the sampled ones', async () => {
    const spans: OtlpSpan[] = []
    let service = ''
    const collector = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        for (const { resource, scopeSpans } of JSON.parse(Buffer.concat(chunks).toString()).resourceSpans) {
          service = resource.attributes.find((attribute: { key: string }) => attribute.key === 'service.name').value.stringValue
          for (const scope of scopeSpans) spans.push(...scope.spans)
        }
        response.setHeader('content-type', 'application/json').end('{}')
      })
    })
    collector.listen(0, '127.0.0.1')
    await once(collector, 'listening')
    const script = `
      import { batchSpan, createTelemetry } from '@spillway/telemetry'
      const telemetry = createTelemetry({ service: 'exporting', logLevel: 'warn', otlp: true })
      const nested = () => batchSpan(telemetry, 'inner', {}, ['${parent}'], async () => {})
      await batchSpan(telemetry, 'one', {}, ['${parent}'], nested)
      await batchSpan(telemetry, 'many', {}, ['${parent}', '${other}', '${other}', '${unsampled}', ''], async () => {})
      await batchSpan(telemetry, 'failing', {}, [''], async () => { throw new Error('boom') }).catch(() => {})
      await telemetry.shutdown()
    `
    const { port } = collector.address() as AddressInfo
    const env = { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: import.meta.dirname, env, stdio: 'inherit' })
    const [code] = await once(child, 'exit')
    collector.close()

    expect(code).toBe(0)
    expect(service).toBe('exporting')
    const named = (name: string): OtlpSpan => spans.find((span) => span.name === name)!
    expect(named('one')).toMatchObject({ traceId: parent.slice(3, 35), parentSpanId: 'b7ad6b7169203331' })
    expect(named('inner')).toMatchObject({ traceId: parent.slice(3, 35), parentSpanId: named('one').spanId })
    expect(named('many').links!.map((link) => link.traceId)).toEqual([parent.slice(3, 35), other.slice(3, 35)])
    expect(named('many').parentSpanId ?? '').toBe('')
    expect(named('failing').status!.code).toBe(2)
  })
})
