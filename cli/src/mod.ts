export { Host, type HostOptions } from './host.ts'
export type { BusAddress } from './bus-address.ts'
export { defaultPorts, type ServiceName, serviceNames, type StoreAddress } from './options.ts'
