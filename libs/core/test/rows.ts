import { type Batch, bytesAt, metaColumns, type RowMeta, type Tensor } from '@spillway/core'

/** A batch row by row, as plain values, so that two batches compare however their memory lies. */
export function rowsOf(batch: Batch): unknown[] {
  return Array.from({ length: batch.rowCount }, (_, row) => ({
    meta: Object.keys(metaColumns).map((name) => metaValue(batch.meta[name as keyof RowMeta], row)),
    columns: [...batch.columns].map(([name, tensor]) => [name, tensor.datatype, tensor.shape.slice(1), rowValues(tensor, row)]),
  }))
}

function metaValue(column: RowMeta[keyof RowMeta], row: number): unknown {
  return 'bytes' in column ? Buffer.from(bytesAt(column, row)).toString('hex') : column[row]
}

/** Floats as numbers, since a NaN may change its payload when it is copied. */
function rowValues(tensor: Tensor, row: number): unknown {
  const width = tensor.shape.slice(1).reduce((product, size) => product * size, 1)
  if (tensor.datatype === 'BYTES')
    return Array.from({ length: width }, (_, i) => Buffer.from(bytesAt(tensor.data, row * width + i)).toString('hex'))
  return Array.from<number | bigint>(tensor.data.subarray(row * width, (row + 1) * width))
}
