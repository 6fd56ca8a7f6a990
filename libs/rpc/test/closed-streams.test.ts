import { connect, createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { expect, it, onTestFinished } from 'vitest'
import { ClosedStreams } from '../src/closed-streams.ts'

it('lets go of what a closed stream held, which says of itself what it said before', async () => {
  const closed = new ClosedStreams()
  const server = createServer()
  const streams: ServerHttp2Stream[] = []
  server.on('stream', (stream) => {
    streams.push(stream)
    stream.on('data', () => undefined)
    stream.on('end', () => {
      stream.respond({ ':status': 200, 'x-answer': String(streams.length) }, { waitForTrailers: true })
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end('answer')
    })
    stream.once('close', () => closed.empty(stream))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  onTestFinished(() => {
    client.destroy()
    server.close()
  })
  const call = async (): Promise<string> => {
    const stream = client.request({ ':method': 'POST', ':path': '/' })
    let body = ''
    stream.setEncoding('utf8').on('data', (part: string) => (body += part))
    stream.end('question')
    await once(stream, 'close')
    return body
  }
  for (let i = 0; i < 3; i++) expect(await call()).toBe('answer')
  await expect.poll(() => streams.every((stream) => stream.destroyed)).toBe(true)
  const [first, second, third] = streams as [ServerHttp2Stream, ServerHttp2Stream, ServerHttp2Stream]
  for (const stream of [second, third]) {
    const { destroyed, closed: isClosed, rstCode, readableEnded, writableFinished, errored } = stream
    expect({ destroyed, isClosed, rstCode, readableEnded, writableFinished, errored }).toEqual({
      destroyed: true,
      isClosed: true,
      rstCode: 0,
      readableEnded: true,
      writableFinished: true,
      errored: null,
    })
    expect(stream.eventNames()).toEqual(['error'])
    expect(stream.sentHeaders).toBe(first.sentHeaders)
    // What comes too late does nothing.
    stream.destroy(new Error('late'))
    stream.end('late')
  }
  expect(await call()).toBe('answer')
})
