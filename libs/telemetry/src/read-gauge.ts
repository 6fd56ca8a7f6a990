import { Gauge } from 'prom-client'
import type { Telemetry } from './telemetry.ts'

/** A gauge that is read when somebody scrapes; in the place of one of that name, as when a service is started again in its process. */
export function readGauge({ registry }: Telemetry, name: string, help: string, read: () => number): void {
  registry.removeSingleMetric(name)
  const gauge: Gauge = new Gauge({ name, help, registers: [registry], collect: () => gauge.set(read()) })
}
