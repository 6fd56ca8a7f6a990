import { createRequire } from 'node:module'

interface RequestQueue {
  readonly pending: readonly unknown[]
  throttleCheckTimeoutId: NodeJS.Timeout | null
  readonly throttledUntil: number
  scheduleCheckPendingRequests(): void
  checkPendingRequests(): void
}

type Connect = (this: Connection) => Promise<boolean>

interface Connection {
  connect: Connect
}

/** Mends, for this process, what kafkajs 2.2.4 does wrong below what is used of it. Idempotent. */
export function repairKafkajs(): void {
  const require = createRequire(import.meta.url)
  const queue = require('kafkajs/src/network/requestQueue/index.js') as { readonly prototype: RequestQueue }
  queue.prototype.scheduleCheckPendingRequests = scheduleWhileHeldBack
  const { prototype } = require('kafkajs/src/network/connection.js') as { readonly prototype: Connection }
  if (prototype.connect.name !== 'connectOnce') prototype.connect = shared(prototype.connect)
}

/**
 * After every response kafkajs sets a timer to look at its queue again, with a negative delay where it is not throttled: Node 24 warns of
 * each (TimeoutNegativeWarning). Its source (network/requestQueue/index.js, scheduleCheckPendingRequests) needs the timer only while requests
 * are held back.
 */
function scheduleWhileHeldBack(this: RequestQueue): void {
  if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return
  const throttledMs = this.throttledUntil - Date.now()
  this.throttleCheckTimeoutId = setTimeout(
    () => {
      this.throttleCheckTimeoutId = null
      this.checkPendingRequests()
    },
    throttledMs > 0 ? throttledMs : 10,
  )
}

/**
 * Requests that find a broker's connection closed each open it (network/connectionPool.js, getConnection): of two at a time one socket is forgotten, never
 * closed, and keeps the process alive. They share one attempt.
 */
function shared(connect: Connect): Connect {
  const underWay = new WeakMap<Connection, Promise<boolean>>()
  return function connectOnce(this: Connection): Promise<boolean> {
    const found = underWay.get(this)
    if (found !== undefined) return found
    const attempt = connect.call(this).finally(() => underWay.delete(this))
    underWay.set(this, attempt)
    return attempt
  }
}
