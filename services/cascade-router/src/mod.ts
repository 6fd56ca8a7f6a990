export * from './tier-models.ts'
export * from './tier-stage.ts'
export * from './tier-stages.ts'
