import { bytesAt, type BytesColumn, MeshError, type Tensor } from '@spillway/core'
import { decodeFrame } from '@spillway/wire'

/** The columns of a letter's row, to be read by people; undefined where there is none, or it cannot be read. */
export function frameRow(frame: string | undefined): Readonly<Record<string, unknown>> | undefined {
  if (frame === undefined) return undefined
  try {
    const { batch } = decodeFrame(Buffer.from(frame, 'base64'))
    return Object.fromEntries([...batch.columns].map(([name, tensor]) => [name, valueOf(tensor)]))
  } catch (error) {
    if (MeshError.from(error).code === 'INVALID_ARGUMENT') return undefined
    throw error
  }
}

function valueOf({ data, shape }: Tensor): unknown {
  const values = elements(data)
  return shape.length === 1 ? values[0] : values
}

function elements(data: Tensor['data']): readonly unknown[] {
  if ('bytes' in data) return texts(data)
  return Array.from(data as ArrayLike<number | bigint>, (value) => (typeof value === 'bigint' ? value.toString() : value))
}

function texts(column: BytesColumn): readonly string[] {
  return Array.from({ length: column.offsets.length - 1 }, (_, index) => Buffer.from(bytesAt(column, index)).toString('utf8'))
}
