import { isSpanContextValid, trace } from '@opentelemetry/api'
import { destination, type DestinationStream, type Logger, type LoggerOptions, pino, stdSerializers, stdTimeFunctions } from 'pino'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** A path, a file descriptor, or anything with `write(line)`. */
export type LogDestination = string | number | DestinationStream

export interface LoggerSettings {
  readonly service: string
  readonly logLevel: LogLevel
  readonly logDestination?: LogDestination
  readonly instanceId?: string
}

const standardOutput = 1

/**
 * JSON lines: `level` (by name), `time` (RFC 3339), `service`, `instance`, `msg`, and `trace_id`, `span_id`, `trace_flags` of the active
 * span (names: OpenTelemetry, "Trace Context in non-OTLP Log Formats"). Lines are written at once: none is lost in a crash.
 */
export function createLogger(settings: LoggerSettings): { readonly logger: Logger; readonly close: () => void } {
  const options: LoggerOptions = {
    level: settings.logLevel,
    base: { service: settings.service, ...(settings.instanceId === undefined ? {} : { instance: settings.instanceId }) },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: stdSerializers.err, error: stdSerializers.err },
    mixin: traceFields,
  }
  const target = settings.logDestination ?? standardOutput
  if (typeof target === 'object') return { logger: pino(options, target), close: () => undefined }
  const own = destination(typeof target === 'string' ? { dest: target, mkdir: true, sync: true } : { fd: target, sync: true })
  const close = (): void => {
    own.flushSync()
    if (typeof target === 'string') own.end()
  }
  return { logger: pino(options, own), close }
}

function traceFields(): object {
  const active = trace.getActiveSpan()?.spanContext()
  if (active === undefined || !isSpanContextValid(active)) return {}
  return { trace_id: active.traceId, span_id: active.spanId, trace_flags: active.traceFlags.toString(16).padStart(2, '0') }
}
