import { MeshError } from '@spillway/core'

/** Where objects of a bucket are, below a prefix. */
export interface S3Address {
  /** `http://host:port` or `https://host`; the bucket is the first segment of the path there. */
  readonly endpoint: string
  readonly bucket: string
  /** Without slashes at its ends; '' for the whole bucket. */
  readonly prefix: string
}

/**
 * `s3://bucket/prefix`, and with the server in it as Triton writes it: `s3://http://host:port/bucket/prefix`, `s3://host:port/bucket/prefix` (HTTP).
 * @param endpoint of an address without a server; AWS's of the region where absent
 * @throws MeshError INVALID_ARGUMENT
 */
export function parseS3Address(text: string, region: string, endpoint: string | undefined): S3Address {
  const [, scheme, host, path = ''] = /^s3:\/\/(?:(https?):\/\/)?(?:([^/:]+:\d+|(?<=s3:\/\/https?:\/\/)[^/]+)\/)?(.*)$/.exec(text) ?? []
  const server = host === undefined ? (endpoint ?? `https://s3.${region}.amazonaws.com`) : `${scheme ?? 'http'}://${host}`
  const [bucket = '', ...rest] = path.split('/')
  if (!/^[a-z\d][a-z\d.-]{1,62}$/.test(bucket) || !/^https?:\/\/[^/]/.test(server) || !URL.canParse(server))
    throw new MeshError('INVALID_ARGUMENT', `${text}: expected s3://bucket/prefix or s3://http://host:port/bucket/prefix`)
  return { endpoint: server.replace(/\/+$/, ''), bucket, prefix: rest.filter((part) => part !== '').join('/') }
}
