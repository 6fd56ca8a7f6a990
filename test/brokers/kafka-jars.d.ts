/** The folder with Kafka's jars, fetched where it is not there yet, or why it cannot be had. */
export declare function kafkaJars(): Promise<{
    readonly folder: string;
} | {
    readonly missing: string;
}>;
