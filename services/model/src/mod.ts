export * from './model-service.ts'
