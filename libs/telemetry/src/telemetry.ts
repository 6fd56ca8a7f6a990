import type { Tracer } from '@opentelemetry/api'
import type { Logger } from 'pino'
import type { Registry } from 'prom-client'

/** Made once at the edge of a process and handed in. */
export interface Telemetry {
  readonly logger: Logger
  /** Metrics are registered in here; the process serves it at `/metrics`. */
  readonly registry: Registry
  readonly tracer: Tracer
}
