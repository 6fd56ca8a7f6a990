/** Bits of the 16-bit floats, from and to numbers: IEEE 754 binary16 (FP16) and the upper half of binary32 (BF16), rounded to nearest even. */

export function fp16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(value)) return 0x7e00
  // Half a step beyond the largest, 65504.
  if (size >= 65_520) return sign | 0x7c00
  // Steps of 2^-24 below the least normal value, else of 2^-10 of the power of two below.
  const exponent = size < 2 ** -14 ? -14 : Math.floor(Math.log2(size))
  const steps = roundedToEven(size / 2 ** (exponent - 10))
  // A mantissa that is rounded up to the next power of two carries into the exponent, as it should.
  return sign | (((exponent + 14) << 10) + steps)
}

export function fromFp16Bits(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f
  const mantissa = bits & 0x3ff
  const size =
    exponent === 31 ? (mantissa === 0 ? Infinity : NaN) : exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25)
  return bits & 0x8000 ? -size : size
}

export function bf16Bits(value: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setFloat32(0, value)
  const bits = view.getUint32(0)
  if (Number.isNaN(value)) return 0x7fc0
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

export function fromBf16Bits(bits: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bits << 16)
  return view.getFloat32(0)
}

function roundedToEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  if (rest === 0.5) return below + (below % 2)
  return rest > 0.5 ? below + 1 : below
}
