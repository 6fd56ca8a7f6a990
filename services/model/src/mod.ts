export * from './model-server.ts'
export * from './model-service.ts'
export * from './model-state.ts'
