import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BrokerFaults, SkippedBroker } from './kafka.ts'
import { mavenJars } from './maven-jars.ts'
import { freePorts } from './ports.ts'
import { Supervised } from './supervised.ts'

const version = '2.7.0'
const host = '127.0.0.1'
const readyMs = 60_000

/** An S3-compatible server for tests, which checks signatures. */
export interface S3Server {
  /** `http://host:port`. */
  readonly endpoint: string
  readonly region: string
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  readonly faults: BrokerFaults
  /** Ends it and removes its data. Idempotent. */
  stop(): Promise<void>
}

/** S3Proxy on its own jars over files, its process ours alone. @throws Error in place of `skipped` where `SPILLWAY_REQUIRE_BROKER=1`. */
export async function startS3(): Promise<S3Server | SkippedBroker> {
  const jars = await mavenJars({ name: `S3Proxy ${version}`, path: `s3proxy/${version}`, artifacts: [`org.gaul:s3proxy:${version}`] })
  if ('folder' in jars) return NativeS3.start(jars.folder)
  if (process.env['SPILLWAY_REQUIRE_BROKER'] === '1')
    throw new Error(`an S3-compatible server is required (SPILLWAY_REQUIRE_BROKER=1): ${jars.missing}`)
  return { skipped: jars.missing }
}

const logging = `<configuration>
  <appender name="stderr" class="ch.qos.logback.core.ConsoleAppender">
    <target>System.err</target>
    <encoder><pattern>%d %level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="stderr"/></root>
</configuration>
`

class NativeS3 implements S3Server {
  readonly endpoint: string
  readonly region = 'us-east-1'
  readonly credentials = { accessKeyId: 'spillway', secretAccessKey: 'open sesame' }
  readonly faults: BrokerFaults = { kill: () => this.#kill(), restart: () => this.#restart() }
  readonly #jars: string
  readonly #folder: string
  #process: Supervised | undefined

  private constructor(jars: string, folder: string, port: number) {
    this.#jars = jars
    this.#folder = folder
    this.endpoint = `http://${host}:${port}`
  }

  static async start(jars: string): Promise<S3Server> {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-s3-'))
    const [port] = (await freePorts(1)) as unknown as [number]
    const server = new NativeS3(jars, folder, port)
    await mkdir(join(folder, 'data'))
    await writeFile(join(folder, 'logback.xml'), logging)
    await writeFile(join(folder, 's3proxy.conf'), server.#properties())
    try {
      await server.#launch()
    } catch (error) {
      // Nobody else could end it, and its supervisor's pipe would keep us alive.
      await server.stop()
      throw error
    }
    return server
  }

  /** The folder wants credentials too, and looks at none. */
  #properties(): string {
    const { accessKeyId, secretAccessKey } = this.credentials
    return `s3proxy.endpoint=${this.endpoint}
s3proxy.authorization=aws-v4
s3proxy.identity=${accessKeyId}
s3proxy.credential=${secretAccessKey}
jclouds.provider=filesystem-nio2
jclouds.identity=none
jclouds.credential=none
jclouds.filesystem.basedir=${join(this.#folder, 'data')}
`
  }

  async #launch(): Promise<void> {
    const command = [
      'java',
      '-Xmx256m',
      '-XX:TieredStopAtLevel=1',
      `-Dlogback.configurationFile=${join(this.#folder, 'logback.xml')}`,
      '-cp',
      join(this.#jars, '*'),
      'org.gaul.s3proxy.Main',
      '--properties',
      join(this.#folder, 's3proxy.conf'),
    ]
    const logFile = join(this.#folder, 'server.log')
    this.#process = await Supervised.start({ command, logFile })
    for (const endMs = Date.now() + readyMs; !(await this.#answers()); await new Promise((resolve) => setTimeout(resolve, 50)))
      if (Date.now() > endMs) throw new Error(`S3Proxy did not answer in ${readyMs} ms:\n${(await readFile(logFile, 'utf8')).slice(-4000)}`)
  }

  /** Whatever it answers: without a signature it is a refusal. */
  async #answers(): Promise<boolean> {
    return fetch(this.endpoint).then(
      () => true,
      () => false,
    )
  }

  async #kill(): Promise<void> {
    await this.#process?.kill()
    this.#process = undefined
  }

  async #restart(): Promise<void> {
    await this.#kill()
    await this.#launch()
  }

  async stop(): Promise<void> {
    await this.#kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
