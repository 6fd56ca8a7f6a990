export * from './call.ts'
export * from './channel.ts'
export * from './handler.ts'
export * from './server.ts'
