// A process of the serving benchmarks: servers that do nothing but take a request and give an answer of the right size.
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { inference } from '@spillway/wire'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answerMessages } from './serving-child.ts'

const { modelInfer } = inference.GRPCInferenceServiceService

/** grpc-js with the protocol's own messages, decoded and encoded. @param answer a ModelInferResponse */
function startGrpc(answer: Buffer): Promise<number> {
  const message = inference.ModelInferResponse.decode(answer)
  const server = new Server({ 'grpc.enable_channelz': 0 })
  server.addService(
    { modelInfer },
    { modelInfer: (_call: unknown, respond: (error: null, response: unknown) => void) => respond(null, message) },
  )
  return new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error))),
  )
}

/** node:http, which reads the body and does not look at it. */
function startHttp(answer: Buffer): Promise<number> {
  const headers = { 'content-type': 'application/json', 'content-length': answer.length }
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      Buffer.concat(parts)
      response.writeHead(200, headers).end(answer)
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}

answerMessages({ startGrpc, startHttp })
