import { createTelemetry, type LogLevel } from '@spillway/telemetry'
import { modelState } from '@spillway/model'
import { ModelHost, type ModelHostFlags } from '../models/model-host.ts'
import { modelTable } from '../models/model-table.ts'
import { runUntilStopped } from '../run-until-stopped.ts'

const standardError = 2

/** `serve model` without a pipeline: says on standard output what is served and where; the log goes to standard error. */
export async function serveModels(flags: ModelHostFlags & { readonly logLevel: LogLevel }): Promise<void> {
  const telemetry = createTelemetry({
    service: 'model',
    logLevel: flags.logLevel,
    otlp: process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] !== undefined,
    logDestination: standardError,
  })
  try {
    const host = new ModelHost(flags, telemetry)
    await runUntilStopped(host, (stopping) => {
      console.log(welcome(host, flags))
      stopping.addEventListener('abort', () => console.log('Draining: finishing what is in flight …'), { once: true })
    })
  } finally {
    await telemetry.shutdown()
  }
}

/** What is served, and what a newcomer can do next, ready to paste. */
function welcome({ service }: ModelHost, { host, httpAddress = host, grpcAddress = host }: ModelHostFlags): string {
  const { models, httpPort, grpcPort } = service
  const states = models.names().map((name) => modelState(models, name))
  const base = `http://${httpAddress}:${httpPort}`
  const [first] = states
  return [
    `The model service is running: ${base} (Open Inference Protocol, TensorFlow Serving's REST, /metrics), gRPC on ${grpcAddress}:${grpcPort}.`,
    '',
    modelTable(states),
    '',
    'Try, in another terminal:',
    ...(first === undefined ? [] : [`  curl -s ${base}/v2/models/${encodeURIComponent(first.name)}`]),
    `  npx spillway models list --server ${base}`,
    '',
  ].join('\n')
}
