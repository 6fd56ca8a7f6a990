import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const cache: string = join(import.meta.dirname, '..', '..', '.cache')

export interface WantedJars {
  /** As messages call it: `Apache Kafka 3.9.2`. */
  readonly name: string
  /** Where they are kept, below `.cache`: `kafka/3.9.2`. */
  readonly path: string
  /** `group:artifact:version`, each with what it needs to run. */
  readonly artifacts: readonly string[]
}

function pom(artifacts: readonly string[]): string {
  const dependencies = artifacts.map((artifact) => {
    const [group, name, version] = artifact.split(':')
    return `<dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`
  })
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>spillway.test</groupId><artifactId>server</artifactId><version>1</version>
  <dependencies>
    ${dependencies.join('\n    ')}
  </dependencies>
</project>
`
}

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

/** The folder with the jars, fetched by Maven where it is not there yet, or why it cannot be had. Java is there where the folder is. */
export async function mavenJars({
  name,
  path,
  artifacts,
}: WantedJars): Promise<{ readonly folder: string } | { readonly missing: string }> {
  if (!(await answers('java', ['-version']))) return { missing: 'no Java on the path' }
  const folder = join(cache, path)
  if (await exists(folder)) return { folder }
  if (!(await answers('mvn', ['-version']))) return { missing: `no Maven on the path to fetch ${name} with` }
  await mkdir(dirname(folder), { recursive: true })
  // Each process fetches into a folder of its own, and the first to finish moves it into place whole: nobody ever sees half of it.
  const scratch = await mkdtemp(join(dirname(folder), `fetching-${basename(folder)}-`))
  try {
    await writeFile(join(scratch, 'pom.xml'), pom(artifacts))
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
    return { missing: `Maven could not fetch ${name}: ${error instanceof Error ? error.message.slice(0, 400) : String(error)}` }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
