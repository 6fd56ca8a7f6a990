import type { Socket } from 'node:net'

/** Signals that fire when a caller is gone: one for each connection, since making one for each request costs more than reading a small request. */
export class CallerSignals {
  readonly #signals = new WeakMap<Socket, AbortSignal>()

  of(socket: Socket): AbortSignal {
    const known = this.#signals.get(socket)
    if (known !== undefined) return known
    const controller = new AbortController()
    if (socket.destroyed) controller.abort()
    else socket.once('close', () => controller.abort())
    this.#signals.set(socket, controller.signal)
    return controller.signal
  }
}
