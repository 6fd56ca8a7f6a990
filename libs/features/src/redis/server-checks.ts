import { MeshError } from '@spillway/core'

/** What is tested; Valkey says the version of Redis that it answers like. */
const oldestVersion = [7, 0] as const

/** What a server's INFO says that matters to histories. */
export interface ServerFacts {
  readonly version: string
  readonly evicts: string | undefined
  readonly keepsWrites: boolean
}

/** @param info the answer to INFO, lines of `name:value` */
export function serverFacts(info: string): ServerFacts {
  const fields = new Map(
    info.split('\r\n').flatMap((line) => {
      const colon = line.indexOf(':')
      return colon === -1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)] as const]
    }),
  )
  const policy = fields.get('maxmemory_policy') ?? 'noeviction'
  const limited = (fields.get('maxmemory') ?? '0') !== '0'
  return {
    version: fields.get('redis_version') ?? '',
    evicts: limited && policy !== 'noeviction' ? policy : undefined,
    keepsWrites: fields.get('aof_enabled') === '1',
  }
}

/** @throws MeshError FAILED_PRECONDITION for a server on which histories would not be safe */
export function checkServer({ version, evicts }: ServerFacts, address: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor, oldestMinor] = oldestVersion
  if (version !== '' && (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)))
    throw new MeshError('FAILED_PRECONDITION', `Redis at ${address} is version ${version}: ${oldestVersion.join('.')} or later is needed`)
  if (evicts !== undefined)
    throw new MeshError(
      'FAILED_PRECONDITION',
      `Redis at ${address} evicts keys when its memory is full (maxmemory-policy ${evicts}), and with them history that windows need: set maxmemory-policy noeviction`,
    )
}
