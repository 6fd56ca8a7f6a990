/** Resolves when one of the brokers answers a request. */
export declare function untilAnswers(brokers: readonly string[], timeoutMs: number): Promise<void>;
