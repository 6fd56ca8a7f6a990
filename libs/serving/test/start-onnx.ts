import { createTelemetry } from '@spillway/telemetry'
import { OnnxBackend } from '../src/backends/onnx-backend.ts'

// A process that loads the model whose path it is given, and ends.

const telemetry = createTelemetry({ service: 'onnx-test', logLevel: 'silent', otlp: false })
const backend = new OnnxBackend({ path: process.argv[2]!, workers: 1, maxBatchRows: 64, logger: telemetry.logger })
await backend.start()
await backend.drain()
await telemetry.shutdown()
