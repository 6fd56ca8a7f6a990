export * from './postprocessing-stage.ts'
