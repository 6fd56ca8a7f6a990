/** A container engine's answer in a few seconds, or none. */
export declare function dockerAnswers(): Promise<boolean>;
/** A broker in a container; its port stays the same through a restart only where the engine keeps it. */
export declare function startContainerKafka(): Promise<{
    readonly brokers: readonly string[];
    stop(): Promise<void>;
}>;
