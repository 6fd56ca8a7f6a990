import type { TestProject } from 'vitest/node'
import { startKafka } from './kafka.ts'

/** Vitest `globalSetup`: one broker for all the files of a run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const kafka = await startKafka()
  if ('skipped' in kafka) {
    console.warn(`no Kafka broker, its tests are skipped: ${kafka.skipped}`)
    project.provide('kafka', kafka)
    return async () => {}
  }
  project.provide('kafka', { brokers: kafka.brokers })
  return async () => kafka.stop()
}
