export * from './gateway.ts'
