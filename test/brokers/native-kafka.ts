import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { untilAnswers } from './ready.ts'

const host = '127.0.0.1'

/** Starts Java, says its process id, and kills it when our end of the pipe closes, however we ended: Java itself does not watch for that. */
const supervisor = '"$@" >&2 & child=$!; echo $child; cat >/dev/null; kill -9 $child 2>/dev/null; wait $child'

const loggingConfiguration = `rootLogger.level = WARN
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{ISO8601} %p %c{1} %m%n
`

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports: number[] = []
  for (const server of servers) {
    server.listen(0, host)
    await once(server, 'listening')
    ports.push((server.address() as { port: number }).port)
  }
  await Promise.all(servers.map(async (server) => new Promise((closed) => server.close(closed))))
  return ports
}

/** One KRaft node on free ports. The start of an offset or transaction topic of 50 partitions is most of the time to readiness; 4 are enough. */
function serverProperties(port: number, controllerPort: number, folder: string): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@${host}:${controllerPort}
listeners=PLAINTEXT://${host}:${port},CONTROLLER://${host}:${controllerPort}
advertised.listeners=PLAINTEXT://${host}:${port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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
  readonly #jars: string
  readonly #folder: string
  #supervisor: ChildProcess | undefined
  #javaPid: number | undefined

  private constructor(jars: string, folder: string, port: number) {
    this.#jars = jars
    this.#folder = folder
    this.brokers = [`${host}:${port}`]
  }

  static async start(jars: string): Promise<NativeKafka> {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-kafka-'))
    const [port, controllerPort] = (await freePorts(2)) as [number, number]
    await writeFile(join(folder, 'log4j2.properties'), loggingConfiguration)
    await writeFile(join(folder, 'server.properties'), serverProperties(port, controllerPort, folder))
    const broker = new NativeKafka(jars, folder, port)
    const formatted = broker.#java('256m', [
      'kafka.tools.StorageTool',
      'format',
      '-t',
      'c3BpbGx3YXktdGVzdC1icg',
      '-c',
      join(folder, 'server.properties'),
    ])
    await broker.#pid(formatted)
    // The supervisor waits for us: with its input closed it would kill the formatting half way, so the data folder tells.
    await broker.#until(async () => (await readFile(join(folder, 'data', 'meta.properties'), 'utf8')).includes('cluster.id'), 20_000)
    formatted.stdin?.end()
    await broker.#launch()
    return broker
  }

  #java(heap: string, args: readonly string[]): ChildProcess {
    const log = openSync(join(this.#folder, 'broker.log'), 'a')
    const java = [
      'java',
      '-Xms128m',
      `-Xmx${heap}`,
      `-Dlog4j2.configurationFile=${join(this.#folder, 'log4j2.properties')}`,
      '-cp',
      join(this.#jars, '*'),
      ...args,
    ]
    const child = spawn('sh', ['-c', supervisor, 'kafka', ...java], { stdio: ['pipe', 'pipe', log] })
    closeSync(log)
    return child
  }

  async #pid(child: ChildProcess): Promise<number> {
    const lines = createInterface(child.stdout!)
    const [line] = (await once(lines, 'line')) as [string]
    return Number(line)
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
    this.#supervisor = this.#java('1g', ['kafka.Kafka', join(this.#folder, 'server.properties')])
    this.#javaPid = await this.#pid(this.#supervisor)
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
    const supervisorProcess = this.#supervisor
    if (supervisorProcess === undefined || this.#javaPid === undefined) return
    process.kill(this.#javaPid, 'SIGKILL')
    this.#supervisor = undefined
    this.#javaPid = undefined
    const exited = once(supervisorProcess, 'exit')
    supervisorProcess.stdin?.end()
    await exited
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
