import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RedisBinary } from './redis-binary.ts'
import { untilRedisAnswers } from './redis-ready.ts'
import { freePorts } from './ports.ts'
import { Supervised } from './supervised.ts'

const host = '127.0.0.1'

/** A server of our own: its data in a temporary folder, its process ours alone. */
export class NativeRedis {
  readonly url: string
  readonly #binary: RedisBinary
  readonly #folder: string
  readonly #arguments: readonly string[]
  #process: Supervised | undefined

  private constructor(binary: RedisBinary, folder: string, port: number, appendFsync: string) {
    this.url = `redis://${host}:${port}/0`
    this.#binary = binary
    this.#folder = folder
    // The append-only file alone: what is acknowledged under `always` is on disk, and a restart brings back just that.
    const settings = { bind: host, port: String(port), dir: folder, save: '', appendonly: 'yes', appendfsync: appendFsync, daemonize: 'no' }
    this.#arguments = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
  }

  static async start(binary: RedisBinary, appendFsync: string): Promise<NativeRedis> {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-redis-'))
    const [port] = (await freePorts(1)) as unknown as [number]
    const server = new NativeRedis(binary, folder, port, appendFsync)
    try {
      await server.#launch()
    } catch (error) {
      // Nobody else could end it, and its supervisor's pipe would keep us alive.
      await server.stop()
      throw error
    }
    return server
  }

  async #launch(): Promise<void> {
    const { command, environment } = this.#binary
    this.#process = await Supervised.start({
      command: [command, ...this.#arguments],
      logFile: join(this.#folder, 'server.log'),
      environment,
    })
    try {
      await untilRedisAnswers(this.url, 30_000)
    } catch (error) {
      throw new Error(`Redis did not answer:\n${(await readFile(join(this.#folder, 'server.log'), 'utf8')).slice(-4000)}`, { cause: error })
    }
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    await this.#process?.kill()
    this.#process = undefined
  }

  /** Starts it again on the same port and data, killing it first where it runs. */
  async restart(): Promise<void> {
    await this.kill()
    await this.#launch()
  }

  pause(): void {
    this.#process?.signal('SIGSTOP')
  }

  resume(): void {
    this.#process?.signal('SIGCONT')
  }

  async stop(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
