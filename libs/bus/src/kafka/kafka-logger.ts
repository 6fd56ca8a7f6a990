import kafkajs from 'kafkajs'
import type { LogEntry } from 'kafkajs'

/** The part of a pino logger that the adapter writes to. */
export interface KafkaLogger {
  debug(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/**
 * kafkajs's log in ours. It logs as an error what it then retries and what we retry after it, so nothing of it is more than a warning, and
 * what it tells of its daily work is for debugging. An answer that is an error is thrown too: a coordinator that says "come again" between two
 * transactions is daily work, and what is not is told by whoever catches it.
 */
export function bridgeLogger(logger: KafkaLogger | undefined): (level: number) => (entry: LogEntry) => void {
  return () => (entry) => {
    if (logger === undefined) return
    const { message, timestamp: _timestamp, logger: _name, ...fields } = entry.log
    const text = `kafkajs ${entry.namespace}: ${message}`
    if (entry.level <= kafkajs.logLevel.WARN && !message.startsWith('Response ')) logger.warn(fields, text)
    else logger.debug(fields, text)
  }
}
