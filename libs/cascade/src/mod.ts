export * from './breaker.ts'
export * from './route.ts'
export * from './schema.ts'
