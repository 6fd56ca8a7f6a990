import { context, type Tracer, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import type * as SdkNode from '@opentelemetry/sdk-node'
import { createRequire } from 'node:module'
import type { Logger } from 'pino'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { createLogger, type LogDestination, type LogLevel } from './logger.ts'

/** Made once at the edge of a process and handed in. */
export interface Telemetry {
  readonly logger: Logger
  /** Metrics are registered in here; the process serves it at `/metrics`. */
  readonly registry: Registry
  /** Where `recording` is off its spans only carry a remote parent on. */
  readonly tracer: Tracer
  /** Whether spans are recorded and exported. */
  readonly recording: boolean
}

/** `Telemetry` as the edge of the process holds it. */
export interface OwnedTelemetry extends Telemetry {
  /** Exports what spans are still held, and flushes the log. Idempotent. */
  shutdown(): Promise<void>
}

export interface TelemetryOptions {
  /** `service.name` of spans, `service` of log lines. */
  readonly service: string
  readonly logLevel: LogLevel
  /** A path (appended to, folders made), a file descriptor or a stream; standard output where absent. */
  readonly logDestination?: LogDestination
  /** Whether spans go out by OTLP. Where to, and how, is read by the OpenTelemetry SDK from its standard variables (`OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`). */
  readonly otlp: boolean
  /** `service.instance.id`, where several processes run the same service. */
  readonly instanceId?: string
}

/**
 * Logger, metrics and tracing of one process. The OpenTelemetry context manager and tracer provider are process-wide by their API's design:
 * the first call sets them. Trace context is carried on in any case; the SDK is loaded only where `otlp` is on.
 */
export function createTelemetry(options: TelemetryOptions): OwnedTelemetry {
  const sdk = options.otlp ? startSdk(options) : undefined
  if (sdk === undefined) context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const { logger, close } = createLogger(options)
  let closed: Promise<void> | undefined
  const shutdown = async (): Promise<void> => {
    try {
      await sdk?.shutdown()
    } catch (error) {
      logger.warn({ err: error }, 'the last spans were not exported')
    }
    close()
  }
  return {
    logger,
    registry,
    tracer: trace.getTracer('spillway'),
    recording: sdk !== undefined,
    shutdown: () => (closed ??= shutdown()),
  }
}

/** Traces only: metrics are scraped and logs are lines. Loaded here and not above, since loading takes half a second. */
function startSdk(options: TelemetryOptions): { shutdown(): Promise<void> } {
  const { startNodeSdk } = createRequire(import.meta.url)('@opentelemetry/sdk-node') as typeof SdkNode
  return startNodeSdk({
    metricReaders: [],
    logRecordProcessors: [],
    resourceAttributes: {
      'service.name': options.service,
      ...(options.instanceId === undefined ? {} : { 'service.instance.id': options.instanceId }),
    },
  })
}
