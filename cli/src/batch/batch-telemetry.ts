import { createTelemetry, type LogLevel, type OwnedTelemetry } from '@spillway/telemetry'

/** Standard output is for results: a batch run's log goes to standard error. */
export function batchTelemetry(logLevel: LogLevel): OwnedTelemetry {
  return createTelemetry({ service: 'spillway-batch', logLevel, logDestination: 2, otlp: false })
}
