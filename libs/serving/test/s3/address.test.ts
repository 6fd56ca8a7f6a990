import { describe, expect, it } from 'vitest'
import { parseS3Address } from '../../src/sources/s3/address.ts'
import { signedHeaders } from '../../src/sources/s3/sign.ts'

const region = 'us-east-1'

describe('an address of a bucket', () => {
  it.each([
    ['s3://models', undefined, 'https://s3.us-east-1.amazonaws.com', 'models', ''],
    ['s3://models/a/b/', undefined, 'https://s3.us-east-1.amazonaws.com', 'models', 'a/b'],
    ['s3://models/a', 'http://localhost:9000/', 'http://localhost:9000', 'models', 'a'],
    ['s3://http://127.0.0.1:9000/models/a', 'http://other', 'http://127.0.0.1:9000', 'models', 'a'],
    ['s3://https://store.example/models', undefined, 'https://store.example', 'models', ''],
    ['s3://store:9000/models//a', undefined, 'http://store:9000', 'models', 'a'],
  ])('%s', (text, endpoint, server, bucket, prefix) => {
    expect(parseS3Address(text, region, endpoint)).toEqual({ endpoint: server, bucket, prefix })
  })

  it.each(['s3://', 's3://A', 's3://http://host:9000', 's3://http://host:9000/'])('%s is refused', (text) => {
    expect(() => parseS3Address(text, region, undefined)).toThrow(/expected s3:\/\/bucket\/prefix or/)
  })
})

it('a request is signed as the documentation’s example is', () => {
  // docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "Example: GET Bucket (List Objects)".
  const url = new URL('https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J')
  const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' }
  expect(signedHeaders(url, credentials, region, Date.UTC(2013, 4, 24))['authorization']).toBe(
    'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, ' +
      'Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  )
})
