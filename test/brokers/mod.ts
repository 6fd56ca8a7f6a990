export * from './kafka.ts'
export * from './redis.ts'
export * from './shared.ts'
