import { dockerAnswers, startContainerKafka } from './container-kafka.ts'
import { kafkaJars } from './kafka-jars.ts'
import { NativeKafka } from './native-kafka.ts'
import { untilAnswers } from './ready.ts'

/** A broker for tests. */
export interface KafkaBroker {
  /** `host:port` each. */
  readonly brokers: readonly string[]
  /** Where proxies must lead to, one for each of `advertisedPorts`. */
  readonly proxiedPorts?: readonly number[]
  /** Where `kill` and `restart` are there: only on a broker that the tests own as a process. */
  readonly faults?: PausableFaults
  /** Ends it and removes its data; a broker that was given is left alone. Idempotent. */
  stop(): Promise<void>
}

export interface BrokerFaults {
  /** `kill -9`. */
  kill(): Promise<void>
  /** On the same address and data; resolves when it answers. */
  restart(): Promise<void>
}

export interface PausableFaults extends BrokerFaults {
  /** SIGSTOP: it takes connections and answers nothing. */
  pause(): void
  /** SIGCONT. */
  resume(): void
}

/** Why there is no broker. */
export interface SkippedBroker {
  readonly skipped: string
}

export interface StartKafkaOptions {
  /** Only a broker that can be killed will do: an address from the environment or a container is passed over. */
  readonly withFaults?: boolean
  /** Ports of proxies in front of it: it listens once more for each, and tells those who come that way to come again by the proxy. Only `withFaults`. */
  readonly advertisedPorts?: readonly number[]
}

/** The addresses in `SPILLWAY_TEST_KAFKA`; else a container; else Java. @throws Error in place of `skipped` where `SPILLWAY_REQUIRE_BROKER=1`. */
export async function startKafka(options: StartKafkaOptions = {}): Promise<KafkaBroker | SkippedBroker> {
  if (options.withFaults !== true) {
    const given = process.env['SPILLWAY_TEST_KAFKA']
    if (given !== undefined && given !== '') {
      const brokers = given.replace(/^kafka:\/\//, '').split(',')
      await untilAnswers(brokers, 10_000)
      return { brokers, stop: async () => {} }
    }
    if (await dockerAnswers()) return startContainerKafka()
  }
  const jars = await kafkaJars()
  if ('missing' in jars) {
    if (process.env['SPILLWAY_REQUIRE_BROKER'] === '1')
      throw new Error(`a Kafka broker is required (SPILLWAY_REQUIRE_BROKER=1): ${jars.missing}`)
    return { skipped: jars.missing }
  }
  const broker = await NativeKafka.start(jars.folder, options.advertisedPorts)
  return {
    brokers: broker.brokers,
    proxiedPorts: broker.proxiedPorts,
    faults: {
      kill: async () => broker.kill(),
      restart: async () => broker.restart(),
      pause: () => broker.pause(),
      resume: () => broker.resume(),
    },
    stop: async () => broker.stop(),
  }
}
