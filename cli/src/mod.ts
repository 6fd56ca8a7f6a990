export { Host, type HostOptions } from './host.ts'
export { type BusAddress, defaultPorts, type ServiceName, serviceNames, type StoreAddress } from './options.ts'
