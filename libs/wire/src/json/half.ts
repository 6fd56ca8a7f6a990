/** Bits of the 16-bit floats, from and to numbers: IEEE 754 binary16 (FP16) and the upper half of binary32 (BF16), rounded to nearest even. */

/** Where one value's bits are looked at; nothing stays in it. */
const scratch = new DataView(new ArrayBuffer(4))

export function fp16Bits(value: number): number {
  scratch.setFloat16(0, value)
  return scratch.getUint16(0)
}

export function fromFp16Bits(bits: number): number {
  scratch.setUint16(0, bits)
  return scratch.getFloat16(0)
}

export function bf16Bits(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0
  scratch.setFloat32(0, value)
  const bits = scratch.getUint32(0)
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

export function fromBf16Bits(bits: number): number {
  scratch.setUint32(0, bits << 16)
  return scratch.getFloat32(0)
}
