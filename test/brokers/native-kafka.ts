import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { untilAnswers } from './ready.ts'
import { freePorts } from './ports.ts'
import { Supervised } from './supervised.ts'

const host = '127.0.0.1'

const loggingConfiguration = `rootLogger.level = WARN
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{ISO8601} %p %c{1} %m%n
`

/** A listener of its own for those who come by a proxy: the broker tells its clients to come again where they came from. */
interface ProxiedListener {
  readonly name: string
  readonly port: number
  /** The proxy's. */
  readonly advertisedPort: number
}

/** One KRaft node on free ports. The start of an offset or transaction topic of 50 partitions is most of the time to readiness; 4 are enough. */
function serverProperties(port: number, controllerPort: number, folder: string, proxied: readonly ProxiedListener[]): string {
  const own = [{ name: 'PLAINTEXT', port, advertisedPort: port }, ...proxied]
  const addresses = (portOf: (listener: ProxiedListener) => number): string =>
    own.map((listener) => `${listener.name}://${host}:${portOf(listener)}`).join(',')
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@${host}:${controllerPort}
listeners=${addresses((listener) => listener.port)},CONTROLLER://${host}:${controllerPort}
advertised.listeners=${addresses((listener) => listener.advertisedPort)}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=${own.map(({ name }) => `${name}:PLAINTEXT`).join(',')},CONTROLLER:PLAINTEXT
num.network.threads=${proxied.length > 0 ? 1 : 3}
log.dirs=${join(folder, 'data')}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
`
}

/** A broker of our own: Java on Kafka's jars, its data in a temporary folder, its process ours alone. */
export class NativeKafka {
  readonly brokers: readonly string[]
  /** One for each advertised port, in their order. */
  readonly proxiedPorts: readonly number[]
  readonly #jars: string
  readonly #folder: string
  #process: Supervised | undefined

  private constructor(jars: string, folder: string, port: number, proxiedPorts: readonly number[]) {
    this.#jars = jars
    this.#folder = folder
    this.proxiedPorts = proxiedPorts
    this.brokers = [`${host}:${port}`]
  }

  static async start(jars: string, advertisedPorts: readonly number[] = []): Promise<NativeKafka> {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-kafka-'))
    const [port, controllerPort, ...proxiedPorts] = (await freePorts(2 + advertisedPorts.length)) as unknown as [
      number,
      number,
      ...number[],
    ]
    const proxied = advertisedPorts.map((advertisedPort, i) => ({ name: `PROXIED${i}`, port: proxiedPorts[i]!, advertisedPort }))
    await writeFile(join(folder, 'log4j2.properties'), loggingConfiguration)
    await writeFile(join(folder, 'server.properties'), serverProperties(port, controllerPort, folder, proxied))
    const broker = new NativeKafka(jars, folder, port, proxiedPorts)
    try {
      await broker.#format()
      await broker.#launch()
    } catch (error) {
      // Nobody else could end it, and its supervisor's pipe would keep us alive.
      await broker.stop()
      throw error
    }
    return broker
  }

  async #format(): Promise<void> {
    const properties = join(this.#folder, 'server.properties')
    this.#process = await this.#java('256m', ['kafka.tools.StorageTool', 'format', '-t', 'c3BpbGx3YXktdGVzdC1icg', '-c', properties])
    // The supervisor waits for us: with its input closed it would kill the formatting half way, so the data folder tells.
    const formatted = join(this.#folder, 'data', 'meta.properties')
    await this.#until(async () => (await readFile(formatted, 'utf8')).includes('cluster.id'), 60_000)
    await this.kill()
  }

  async #java(heap: string, args: readonly string[]): Promise<Supervised> {
    const command = [
      'java',
      '-Xms128m',
      `-Xmx${heap}`,
      `-Dlog4j2.configurationFile=${join(this.#folder, 'log4j2.properties')}`,
      '-cp',
      join(this.#jars, '*'),
      ...args,
    ]
    return Supervised.start({ command, logFile: join(this.#folder, 'broker.log') })
  }

  async #until(condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const endMs = Date.now() + timeoutMs
    for (;;) {
      if (await condition().catch(() => false)) return
      if (Date.now() > endMs) throw new Error(`Kafka is not ready after ${timeoutMs} ms:\n${await this.log()}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  async #launch(): Promise<void> {
    this.#process = await this.#java('1g', ['kafka.Kafka', join(this.#folder, 'server.properties')])
    try {
      await untilAnswers(this.brokers, 60_000)
    } catch (error) {
      throw new Error(`Kafka did not answer:\n${await this.log()}`, { cause: error })
    }
  }

  /** The last lines that the broker logged. */
  async log(): Promise<string> {
    return (await readFile(join(this.#folder, 'broker.log'), 'utf8')).slice(-4000)
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    await this.#process?.kill()
    this.#process = undefined
  }

  pause(): void {
    this.#process?.signal('SIGSTOP')
  }

  resume(): void {
    this.#process?.signal('SIGCONT')
  }

  /** Starts it again on the same ports and data, killing it first where it runs. */
  async restart(): Promise<void> {
    await this.kill()
    await this.#launch()
  }

  async stop(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
