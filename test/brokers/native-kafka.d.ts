/** A broker of our own: Java on Kafka's jars, its data in a temporary folder, its process ours alone. */
export declare class NativeKafka {
    #private;
    readonly brokers: readonly string[];
    private constructor();
    static start(jars: string): Promise<NativeKafka>;
    /** The last lines that the broker logged. */
    log(): Promise<string>;
    /** `kill -9`. */
    kill(): Promise<void>;
    /** Starts it again on the same ports and data, killing it first where it runs. */
    restart(): Promise<void>;
    stop(): Promise<void>;
}
