export * from './model-server.ts'
export * from './model-service.ts'
