import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import { MeshError } from '@spillway/core'
import kafkajs from 'kafkajs'
import { compressFrame, decompressFrame } from 'lz4-napi'
import { compress, uncompress } from 'snappy'

/** What kafkajs calls of a codec; a batch's records in and out. */
interface Codec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>
  decompress(bytes: Buffer): Promise<Buffer>
}

/** No batch is larger than this unpacked: a broker takes 1 MB packed unless it was told otherwise. */
const maxBatchBytes = 256 * 1024 * 1024

const packZstd = promisify(zstdCompress)
const unpackZstd = promisify(zstdDecompress)

const zstd: Codec = {
  compress: ({ buffer }) => packZstd(buffer),
  decompress: (bytes) => unpackZstd(bytes, { maxOutputLength: maxBatchBytes }),
}

/** LZ4's frame format. */
const lz4: Codec = {
  compress: ({ buffer }) => compressFrame(buffer),
  decompress: (bytes) => decompressFrame(bytes),
}

/** Blocks in snappy-java's stream format: this magic, two int32 of versions, then each block after its length; or one block alone, as other clients write it. */
const snappyMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const snappyHeadBytes = 16

const snappy: Codec = {
  compress: ({ buffer }) => compress(buffer),
  decompress: async (bytes) => {
    if (!bytes.subarray(0, snappyMagic.length).equals(snappyMagic)) return unpackBlock(bytes)
    const blocks: Buffer[] = []
    for (let at = snappyHeadBytes; at < bytes.length;) {
      const start = at + 4
      const end = start + bytes.readInt32BE(at)
      if (end < start || end > bytes.length) throw new MeshError('DATA_LOSS', 'a Snappy block is longer than what holds it')
      blocks.push(await unpackBlock(bytes.subarray(start, end)))
      at = end
    }
    return Buffer.concat(blocks)
  },
}

async function unpackBlock(block: Buffer): Promise<Buffer> {
  const unpacked = await uncompress(block)
  return Buffer.from(unpacked)
}

/** Teaches kafkajs, which brings gzip alone, what other producers and brokers compress with. Saying it again changes nothing. */
export function teachCodecs(): void {
  const { CompressionCodecs, CompressionTypes } = kafkajs
  CompressionCodecs[CompressionTypes.Snappy] = () => snappy
  CompressionCodecs[CompressionTypes.LZ4] = () => lz4
  CompressionCodecs[CompressionTypes.ZSTD] = () => zstd
}
