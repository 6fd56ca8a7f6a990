import { resolve } from 'node:path'
import { DirectorySource, type DirectorySourceOptions, parseS3Address, S3Client, type S3Credentials, S3Source } from '@spillway/serving'

/** What AWS's own tools read. */
type Environment = Readonly<Record<string, string | undefined>>

const defaultRegion = 'us-east-1'

/** A repository by its `--model-repository`: a folder, or `s3://…`, whose server, region and credentials the environment has (`AWS_…`). */
export function repositorySource(
  repository: string,
  parseConfig: NonNullable<DirectorySourceOptions['parseConfig']>,
  cacheFolder: string | undefined,
  environment: Environment,
): DirectorySource | S3Source {
  if (!repository.startsWith('s3://')) return new DirectorySource({ repository: resolve(repository), parseConfig })
  const region = environment['AWS_REGION'] ?? environment['AWS_DEFAULT_REGION'] ?? defaultRegion
  const endpoint = environment['AWS_ENDPOINT_URL_S3'] ?? environment['AWS_ENDPOINT_URL']
  const address = parseS3Address(repository, region, endpoint)
  const credentials = credentialsOf(environment)
  const client = new S3Client({ address, region, ...(credentials !== undefined && { credentials }) })
  const name = `s3://${address.bucket}${address.prefix === '' ? '' : `/${address.prefix}`}`
  return new S3Source({
    client,
    prefix: address.prefix,
    name,
    parseConfig,
    ...(cacheFolder !== undefined && { cacheFolder: resolve(cacheFolder) }),
  })
}

function credentialsOf(environment: Environment): S3Credentials | undefined {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = environment
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
}
