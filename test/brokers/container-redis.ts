import { untilRedisAnswers } from './redis-ready.ts'

const image = 'valkey/valkey:8.1.11'

/** A server in a container. */
export async function startContainerRedis(appendFsync: string): Promise<{ readonly url: string; stop(): Promise<void> }> {
  // Loaded only here: testcontainers is a large tree that most runs do not need.
  const { GenericContainer } = await import('testcontainers')
  const container = await new GenericContainer(image)
    .withCommand(['valkey-server', '--save', '', '--appendonly', 'yes', '--appendfsync', appendFsync])
    .withExposedPorts(6379)
    .start()
  const url = `redis://${container.getHost()}:${container.getMappedPort(6379)}/0`
  await untilRedisAnswers(url, 60_000)
  return {
    url,
    stop: async () => {
      await container.stop()
    },
  }
}
