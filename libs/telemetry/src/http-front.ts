import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'

/**
 * Looks at a request before the app makes anything of it. True where it is answered, or will be: the app never sees it then.
 * @param asks whether the client waits to be told to send the body (Expect: 100-continue); it is told so where this is false
 */
export type HttpFront = (request: IncomingMessage, response: ServerResponse, asks: boolean) => boolean

/** Puts `front` before whatever answers the server's requests now. */
export function putInFront(server: Server, front: HttpFront): void {
  const behind = server.listeners('request') as RequestListener[]
  server.removeAllListeners('request')
  const handle: RequestListener = (request, response) => {
    for (const listener of behind) listener(request, response)
  }
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (!front(request, response, false)) handle(request, response)
  })
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (front(request, response, true)) return
    response.writeContinue()
    handle(request, response)
  })
}
