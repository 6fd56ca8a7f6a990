import { connect, Socket } from 'node:net'

export interface SocketOptions {
  readonly host: string
  readonly port: number
  readonly onConnect: () => void
}

/**
 * A socket for kafkajs, as its own factory makes it (network/socketFactory.js), but that one that is closed takes `unref` for nothing. kafkajs
 * calls it for every request that was in flight (network/connection.js, disconnect), and Node keeps a listener for each, for a connect that never comes.
 */
export function openSocket({ host, port, onConnect }: SocketOptions): Socket {
  const socket = connect({ host, port }, onConnect)
  socket.setKeepAlive(true, 60_000)
  socket.unref = () => (socket.destroyed ? socket : Socket.prototype.unref.call(socket))
  return socket
}
