export * from './port.ts'
export * from './records.ts'
export * from './embedded/embedded-bus.ts'
