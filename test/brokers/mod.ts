export * from './kafka.ts'
export * from './shared.ts'
