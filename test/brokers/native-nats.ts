import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { untilNatsAnswers } from './nats-ready.ts'
import { freePorts } from './ports.ts'
import { Supervised } from './supervised.ts'

const host = '127.0.0.1'

/** A server of our own with JetStream in files: its data in a temporary folder, its process ours alone. */
export class NativeNats {
  readonly servers: readonly string[]
  readonly #command: readonly string[]
  readonly #folder: string
  #process: Supervised | undefined

  private constructor(binary: string, folder: string, port: number) {
    this.servers = [`${host}:${port}`]
    this.#folder = folder
    this.#command = [binary, '--addr', host, '--port', String(port), '--jetstream', '--store_dir', join(folder, 'data')]
  }

  static async start(binary: string): Promise<NativeNats> {
    const folder = await mkdtemp(join(tmpdir(), 'spillway-nats-'))
    const [port] = (await freePorts(1)) as unknown as [number]
    const server = new NativeNats(binary, folder, port)
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
    this.#process = await Supervised.start({ command: this.#command, logFile: join(this.#folder, 'server.log') })
    try {
      await untilNatsAnswers(this.servers, 30_000)
    } catch (error) {
      throw new Error(`NATS did not answer:\n${(await readFile(join(this.#folder, 'server.log'), 'utf8')).slice(-4000)}`, { cause: error })
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
