import { untilNatsAnswers } from './nats-ready.ts'

const image = 'nats:2.15.2-alpine'

/** A server in a container. */
export async function startContainerNats(): Promise<{ readonly servers: readonly string[]; stop(): Promise<void> }> {
  // Loaded only here: testcontainers is a large tree that most runs do not need.
  const { GenericContainer } = await import('testcontainers')
  const container = await new GenericContainer(image).withCommand(['--jetstream', '--store_dir', '/data']).withExposedPorts(4222).start()
  const servers = [`${container.getHost()}:${container.getMappedPort(4222)}`]
  await untilNatsAnswers(servers, 60_000)
  return {
    servers,
    stop: async () => {
      await container.stop()
    },
  }
}
