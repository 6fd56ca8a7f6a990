import { mavenJars } from './maven-jars.ts'

/**
 * The last of 3.x: the group coordinator of 4.x forgets acknowledged commits where the broker was killed. 4.3.1 can complete a transaction without writing its
 * markers (seen one restart in four); 4.1.2 can begin with nothing of __consumer_offsets read, which its log calls "out of sync with the underlying log"
 * (seen one restart in ten on a busy machine).
 */
const kafkaVersion = '3.9.2'

/** The folder with Kafka's jars, fetched where it is not there yet, or why it cannot be had. */
export async function kafkaJars(): Promise<{ readonly folder: string } | { readonly missing: string }> {
  const jars = await mavenJars({
    name: `Apache Kafka ${kafkaVersion}`,
    path: `kafka/${kafkaVersion}`,
    // The SLF4J binding is not among Kafka's own dependencies; without it a broker that fails says nothing.
    artifacts: [`org.apache.kafka:kafka_2.13:${kafkaVersion}`, 'org.apache.logging.log4j:log4j-slf4j-impl:2.25.4'],
  })
  return 'missing' in jars ? { missing: `${jars.missing} (and no Docker engine, no SPILLWAY_TEST_KAFKA)` } : jars
}
