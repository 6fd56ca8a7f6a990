import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * The last of 3.x: the group coordinator of 4.x forgets acknowledged commits where the broker was killed. 4.3.1 can complete a transaction without writing its
 * markers (seen one restart in four); 4.1.2 can begin with nothing of __consumer_offsets read, which its log calls "out of sync with the underlying log"
 * (seen one restart in ten on a busy machine).
 */
const kafkaVersion = '3.9.2'
const repositoryRoot: string = join(import.meta.dirname, '..', '..')

/** The SLF4J binding is not among Kafka's own dependencies; without it a broker that fails says nothing. */
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>spillway.test</groupId><artifactId>kafka-broker</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${kafkaVersion}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
`

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function answers(command: string, args: readonly string[]): Promise<boolean> {
  return run(command, [...args], { timeout: 20_000 }).then(
    () => true,
    () => false,
  )
}

/** The folder with Kafka's jars, fetched where it is not there yet, or why it cannot be had. */
export async function kafkaJars(): Promise<{ readonly folder: string } | { readonly missing: string }> {
  if (!(await answers('java', ['-version']))) return { missing: 'no Java on the path (and no Docker engine, no SPILLWAY_TEST_KAFKA)' }
  const cache = join(repositoryRoot, '.cache', 'kafka')
  const folder = join(cache, kafkaVersion)
  if (await exists(folder)) return { folder }
  if (!(await answers('mvn', ['-version'])))
    return { missing: 'no Maven on the path to fetch Apache Kafka with (and no Docker engine, no SPILLWAY_TEST_KAFKA)' }
  await mkdir(cache, { recursive: true })
  // Each process fetches into a folder of its own, and the first to finish moves it into place whole: nobody ever sees half of it.
  const scratch = await mkdtemp(join(cache, 'fetching-'))
  try {
    await writeFile(join(scratch, 'pom.xml'), pom)
    const args = [
      '-q',
      '-B',
      '-f',
      join(scratch, 'pom.xml'),
      'dependency:copy-dependencies',
      '-DincludeScope=runtime',
      `-DoutputDirectory=${join(scratch, 'jars')}`,
    ]
    await run('mvn', args, { timeout: 300_000, maxBuffer: 16_000_000 })
    await rename(join(scratch, 'jars'), folder).catch(async (error: unknown) => {
      if (!(await exists(folder))) throw error
    })
    return { folder }
  } catch (error) {
    return {
      missing: `Maven could not fetch Apache Kafka ${kafkaVersion}: ${error instanceof Error ? error.message.slice(0, 400) : String(error)}`,
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
