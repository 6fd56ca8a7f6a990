import { describe, expect, it } from 'vitest'
import { parseS3Address } from '../../src/sources/s3/address.ts'

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
