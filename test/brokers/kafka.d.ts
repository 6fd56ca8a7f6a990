/** A broker for tests. */
export interface KafkaBroker {
    /** `host:port` each. */
    readonly brokers: readonly string[];
    /** Where `kill` and `restart` are there: only on a broker that the tests own as a process. */
    readonly faults?: BrokerFaults;
    /** Ends it and removes its data; a broker that was given is left alone. Idempotent. */
    stop(): Promise<void>;
}
export interface BrokerFaults {
    /** `kill -9`. */
    kill(): Promise<void>;
    /** On the same address and data; resolves when it answers. */
    restart(): Promise<void>;
}
/** Why there is no broker. */
export interface SkippedBroker {
    readonly skipped: string;
}
export interface StartKafkaOptions {
    /** Only a broker that can be killed will do: an address from the environment or a container is passed over. */
    readonly withFaults?: boolean;
}
/** The addresses in `SPILLWAY_TEST_KAFKA`; else a container; else Java. @throws Error in place of `skipped` where `SPILLWAY_REQUIRE_BROKER=1`. */
export declare function startKafka(options?: StartKafkaOptions): Promise<KafkaBroker | SkippedBroker>;
