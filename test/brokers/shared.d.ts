import { type KafkaBroker, type SkippedBroker } from './kafka.ts';
declare module 'vitest' {
    interface ProvidedContext {
        /** The run's one broker, where `global-setup.ts` is a global set-up. */
        kafka: {
            readonly brokers: readonly string[];
        } | SkippedBroker;
    }
}
/** The run's one broker where there is a global set-up for it; else one of the caller's own, to be stopped by the caller. */
export declare function sharedKafka(): Promise<KafkaBroker | SkippedBroker>;
