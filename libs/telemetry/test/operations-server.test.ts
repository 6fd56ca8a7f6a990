import { once } from 'node:events'
import { mkdtempSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createTelemetry, OperationsServer, type Readiness } from '../src/mod.ts'

const host = '127.0.0.1'
const logFile = join(mkdtempSync(join(tmpdir(), 'spillway-')), 'logs', 'mesh.log')
const telemetry = createTelemetry({ service: 'test', logLevel: 'info', logDestination: logFile, otlp: false, instanceId: 'a' })

it('serves metrics, liveness and readiness, and closes twice', async () => {
  let ready: Readiness = { ready: false, reason: 'waiting for the bus' }
  const server = new OperationsServer({ host, port: 0, telemetry, ready: () => ready })
  await server.start()
  const get = (path: string): Promise<Response> => fetch(`http://${host}:${server.port}${path}`)

  expect((await get('/livez')).status).toBe(200)
  const waiting = await get('/readyz')
  expect([waiting.status, await waiting.text()]).toEqual([503, 'not ready: waiting for the bus\n'])
  ready = true
  expect((await get('/readyz')).status).toBe(200)
  expect(await (await get('/metrics')).text()).toContain('nodejs_eventloop_lag_seconds')

  const taken = new OperationsServer({ host, port: server.port, telemetry, ready: () => true })
  await expect(taken.start()).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining(`${host}:${server.port}`),
  })
  await taken.drain()
  // A client that holds a connection and asks nothing does not keep the process up.
  const silent = connect(server.port, host)
  await once(silent, 'connect')
  expect((await get('/livez')).status).toBe(200)
  const startMs = performance.now()
  await server.drain()
  expect(performance.now() - startMs).toBeLessThan(900)
  await server.drain()
})

it('appends log lines to a file', async () => {
  telemetry.logger.error({ err: new Error('boom') }, 'failed')
  await telemetry.shutdown()
  await telemetry.shutdown()
  const line = JSON.parse(readFileSync(logFile, 'utf8').trim())
  expect(line).toMatchObject({ level: 'error', service: 'test', instance: 'a', msg: 'failed', err: { message: 'boom' } })
})
