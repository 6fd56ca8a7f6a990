/** RFC 7541, Appendix A: fields of lower indices are in the static table, of which none is `grpc-status`. */
const firstDynamic = 62
/** A table of 4096 bytes, which is what it has until told otherwise, counts 32 for a field beside its text: it holds no more of them. */
const mostFields = 128

/** As it is, and in the code of RFC 7541, Appendix B. A status is a digit or two, which that code makes no shorter. */
const statusNames: readonly string[] = ['grpc-status', 'coded 9acac8b21234da8f']

/** Request headers as clients send them: the first time by their text, which enters the peer's table, then by their places in it. */
export function requestBlocks(headers: Readonly<Record<string, string>>): { readonly first: Buffer; readonly later: Buffer } {
  const fields = Object.entries(headers)
  const text = (value: string): Buffer => {
    if (value.length >= 127) throw new Error(`a header of the benchmark is longer than 126 bytes: ${value}`)
    return Buffer.from(`${String.fromCharCode(value.length)}${value}`, 'latin1')
  }
  return {
    first: Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(0x40), text(name), text(value)])),
    later: Buffer.from(fields.map((_, i) => 0x80 | (firstDynamic + fields.length - 1 - i))),
  }
}

/** What is known of a field: its status, if that is what it is. */
type Field = string | undefined

/** Reads the header blocks of a connection (RFC 7541) for nothing but `grpc-status`. */
export class StatusReader {
  /** The newest last. */
  readonly #fields: Field[] = []
  #block: Buffer = Buffer.alloc(0)
  #at = 0

  /** The status that a block names, if it does. */
  read(block: Buffer): string | undefined {
    this.#block = block
    this.#at = 0
    let status: string | undefined
    while (this.#at < block.length) status = this.#field() ?? status
    return status
  }

  #field(): Field {
    const first = this.#block[this.#at]!
    if ((first & 0x80) !== 0) return this.#known(this.#integer(7))
    if ((first & 0xe0) === 0x20) {
      this.#integer(5)
      return undefined
    }
    const enters = (first & 0x40) !== 0
    const index = this.#integer(enters ? 6 : 4)
    const isStatus = index === 0 ? statusNames.includes(this.#text()) : this.#known(index) !== undefined
    const value = this.#text()
    const field = isStatus ? value : undefined
    if (enters) this.#fields.push(field)
    if (this.#fields.length > mostFields) this.#fields.shift()
    return field
  }

  #known(index: number): Field {
    return index < firstDynamic ? undefined : this.#fields[this.#fields.length - 1 - (index - firstDynamic)]
  }

  /** RFC 7541, 5.1. */
  #integer(prefixBits: number): number {
    const most = 2 ** prefixBits - 1
    let value = this.#block[this.#at++]! & most
    if (value < most) return value
    for (let shift = 0; ; shift += 7) {
      const byte = this.#block[this.#at++]!
      value += (byte & 0x7f) * 2 ** shift
      if ((byte & 0x80) === 0) return value
    }
  }

  /** RFC 7541, 5.2. */
  #text(): string {
    const coded = (this.#block[this.#at]! & 0x80) !== 0
    const length = this.#integer(7)
    this.#at += length
    return coded
      ? `coded ${this.#block.toString('hex', this.#at - length, this.#at)}`
      : this.#block.toString('latin1', this.#at - length, this.#at)
  }
}
