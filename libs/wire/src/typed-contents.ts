import {
  allocate,
  bytesColumn,
  type Datatype,
  elementCount,
  type FixedData,
  type FixedDatatype,
  MeshError,
  type Tensor,
} from '@spillway/core'
import type { InferTensorContents } from './generated/inference/grpc_service.ts'

/** Which field of InferTensorContents holds a datatype (OIP "InferTensorContents"). The 16-bit floats have none: they travel raw only. */
const fields: Readonly<Record<Exclude<Datatype, 'FP16' | 'BF16'>, keyof InferTensorContents>> = {
  BOOL: 'boolContents',
  UINT8: 'uintContents',
  UINT16: 'uintContents',
  UINT32: 'uintContents',
  UINT64: 'uint64Contents',
  INT8: 'intContents',
  INT16: 'intContents',
  INT32: 'intContents',
  INT64: 'int64Contents',
  FP32: 'fp32Contents',
  FP64: 'fp64Contents',
  BYTES: 'bytesContents',
}

const contentFields = [...new Set(Object.values(fields))]

/** Whether any typed content is given. */
export function hasContents(contents: InferTensorContents): boolean {
  return contentFields.some((field) => contents[field].length > 0)
}

/**
 * A tensor from typed contents; nothing is allocated beyond what the contents hold.
 * @throws MeshError INVALID_ARGUMENT where the field is not the datatype's, the count is not the shape's, or an 8- or 16-bit value does not fit.
 */
export function typedContents(
  name: string,
  datatype: Datatype,
  shape: readonly number[],
  contents: InferTensorContents | undefined,
): Tensor {
  if (datatype === 'FP16' || datatype === 'BF16') throw invalid(name, `${datatype} has no typed contents: send it as raw contents`)
  const expectedField = fields[datatype]
  const other = contentFields.find((field) => field !== expectedField && contents !== undefined && contents[field].length > 0)
  if (other !== undefined) throw invalid(name, `${datatype} belongs in ${snakeCase(expectedField)}, not in ${snakeCase(other)}`)
  const values = contents?.[expectedField] ?? []
  const count = elementCount(shape)
  if (values.length !== count)
    throw invalid(name, `${datatype} of shape [${shape.join(', ')}] needs ${count} elements, got ${values.length}`)
  if (datatype === 'BYTES') return { datatype, shape, data: bytesColumn(values as Uint8Array[]) }
  return { datatype, shape, data: fixedData(name, datatype, values as readonly (number | bigint | boolean)[]) }
}

function fixedData(name: string, datatype: FixedDatatype, values: readonly (number | bigint | boolean)[]): FixedData {
  const data = allocate(datatype, values.length)
  const checked = data.BYTES_PER_ELEMENT < 4 && datatype !== 'BOOL'
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    data[i] = typeof value === 'boolean' ? Number(value) : value
    if (checked && data[i] !== value) throw invalid(name, `${value} (element ${i}) is out of range for ${datatype}`)
  }
  return data
}

function snakeCase(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function invalid(name: string, message: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `tensor "${name}": ${message}`, { field: name })
}
