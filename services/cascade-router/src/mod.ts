export * from './tier-stage.ts'
export * from './tier-stages.ts'
