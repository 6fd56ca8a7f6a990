export * from './preprocessing-stage.ts'
