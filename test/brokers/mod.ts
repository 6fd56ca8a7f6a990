export * from './kafka.ts'
export * from './nats.ts'
export * from './redis.ts'
export * from './shared.ts'
