import type { FixedTensor } from '@spillway/core'
import { fromBf16Bits, fromFp16Bits } from './half.ts'
import type { JsonWriter } from './json-writer.ts'

/** What writes the element at an index. */
export function elementWriter(writer: JsonWriter, { datatype, data }: FixedTensor): (index: number) => void {
  const number = data as Float64Array
  switch (datatype) {
    case 'FP32': {
      const single = data as Float32Array
      return (index) => writer.fp32(single[index]!)
    }
    case 'FP64':
      return (index) => writer.fp64(number[index]!)
    case 'FP16':
      return (index) => writer.fp32(fromFp16Bits(number[index]!))
    case 'BF16':
      return (index) => writer.fp32(fromBf16Bits(number[index]!))
    case 'BOOL':
      return (index) => writer.raw(number[index] === 0 ? 'false' : 'true')
    case 'INT8':
    case 'INT16':
    case 'INT32':
    case 'INT64':
    case 'UINT8':
    case 'UINT16':
    case 'UINT32':
    case 'UINT64':
      return (index) => writer.whole(data[index]!)
  }
}
