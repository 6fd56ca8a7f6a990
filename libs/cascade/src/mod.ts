export * from './route.ts'
export * from './schema.ts'
