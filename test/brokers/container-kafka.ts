import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { untilAnswers } from './ready.ts'

const image = 'confluentinc/cp-kafka:8.0.0'

/** A container engine's answer in a few seconds, or none. */
export async function dockerAnswers(): Promise<boolean> {
  return promisify(execFile)('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: 3000 }).then(
    ({ stdout }) => stdout.trim() !== '',
    () => false,
  )
}

/** A broker in a container; its port stays the same through a restart only where the engine keeps it. */
export async function startContainerKafka(): Promise<{ readonly brokers: readonly string[]; stop(): Promise<void> }> {
  // Loaded only here: testcontainers is a large tree that most runs do not need.
  const { KafkaContainer } = await import('@testcontainers/kafka')
  const container = await new KafkaContainer(image)
    .withKraft()
    .withEnvironment({
      KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS: '0',
      KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS: '1000',
      KAFKA_AUTO_CREATE_TOPICS_ENABLE: 'false',
    })
    .start()
  const brokers = [`${container.getHost()}:${container.getMappedPort(9093)}`]
  await untilAnswers(brokers, 60_000)
  return {
    brokers,
    stop: async () => {
      await container.stop()
    },
  }
}
