/** FileDescriptorSet's `file`: a field 1 behind its length, byte by byte (google/protobuf/descriptor.proto). */
const fileTag = 0x0a

/** The files of a FileDescriptorSet, each as it is. */
export function filesOf(set: Buffer): Buffer[] {
  const files: Buffer[] = []
  for (let at = 0; at < set.length;) {
    if (set[at++] !== fileTag) throw new TypeError('a FileDescriptorSet has files alone')
    let [length, shift] = [0, 0]
    for (let more = true; more; shift += 7) {
      const byte = set.readUInt8(at++)
      length |= (byte & 0x7f) << shift
      more = byte > 0x7f
    }
    files.push(set.subarray(at, at + length))
    at += length
  }
  return files
}
