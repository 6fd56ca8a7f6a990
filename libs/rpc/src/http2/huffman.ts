/**
 * How many bits the code of each octet has, and behind them that of the end of a string: RFC 7541, Appendix B. `a` stands for 5 bits, the fewest, and so on to
 * `z` for 30. The code is canonical: of two codes the shorter comes first, and of codes of one length that of the smaller octet, so that the lengths say all.
 */
const lengths =
  'isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhf' +
  'ibccccccccccccccccccccccdcdioijbkabababbbaccbbbabcbaabccccckgjix' +
  'prpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrs' +
  'vvporsruvvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwv' +
  'z'

const fewestBits = 5
const mostBits = 30
const endOfString = 256
/** A code is looked up by as many bits at once. The more frequent ones have no more. */
const rootBits = 8

/** All octets and the end of a string, in the order of their codes. */
const symbols = new Uint16Array(lengths.length)
/** By a code's length, bits: the first code; how many there are; and where the first one's symbol stands. */
const firstCodes = new Uint32Array(mostBits + 1)
const counts = new Uint16Array(mostBits + 1)
const firstSymbols = new Uint16Array(mostBits + 1)
/** By the next bits: the octet (<< 4) and the bits of its code; 0 where these are only the beginning of a longer code. */
const roots = new Uint16Array(1 << rootBits)

function fillTables(): void {
  let [code, place] = [0, 0]
  for (let length = fewestBits; length <= mostBits; length++) {
    firstCodes[length] = code
    firstSymbols[length] = place
    const letter = String.fromCharCode(0x61 - fewestBits + length)
    for (let symbol = lengths.indexOf(letter); symbol >= 0; symbol = lengths.indexOf(letter, symbol + 1)) {
      symbols[place++] = symbol
      const free = rootBits - length
      if (free >= 0) roots.fill((symbol << 4) | length, code << free, (code + 1) << free)
      code++
    }
    counts[length] = place - firstSymbols[length]!
    code <<= 1
  }
}
fillTables()

/** Of what is decoded at once without new memory, bytes. */
const scratchBytes = 512

/** Decodes strings in the code of RFC 7541, Appendix B. Each connection has its own, since what it writes to is kept. */
export class HuffmanDecoder {
  readonly #scratch: Buffer = Buffer.allocUnsafeSlow(scratchBytes)

  /**
   * @param from of the first byte, to: behind the last
   * @returns latin1 text; undefined where the bytes are no such string: the end of a string within it, or behind it more than 7 bits or other bits than ones
   *   (RFC 7541, 5.2)
   */
  decode(bytes: Uint8Array, from: number, to: number): string | undefined {
    const mostOctets = Math.ceil(((to - from) * 8) / fewestBits)
    const text = mostOctets <= scratchBytes ? this.#scratch : Buffer.allocUnsafe(mostOctets)
    const octets = write(text, bytes, from, to)
    return octets < 0 ? undefined : text.toString('latin1', 0, octets)
  }
}

/** @returns how many octets were written; -1 where the code is broken */
function write(text: Uint8Array, bytes: Uint8Array, from: number, to: number): number {
  // The lowest `held` bits of `bits` are those that were read of the bytes and not yet decoded.
  let [at, bits, held, octets] = [from, 0, 0, 0]
  for (;;) {
    if (held < rootBits) {
      if (at === to) return writeLast(text, octets, bits, held)
      bits = (bits << 8) | bytes[at++]!
      held += 8
    }
    const root = roots[(bits >>> (held - rootBits)) & 0xff]!
    if (root !== 0) {
      text[octets++] = root >>> 4
      held -= root & 0xf
      continue
    }
    let code = (bits >>> (held - rootBits)) & 0xff
    held -= rootBits
    let length = rootBits
    let place = -1
    do {
      if (held === 0) {
        if (at === to) return -1
        bits = bytes[at++]!
        held = 8
      }
      held--
      code = (code << 1) | ((bits >>> held) & 1)
      length++
      place = code - firstCodes[length]!
    } while (place >= counts[length]!)
    const symbol = symbols[firstSymbols[length]! + place]!
    if (symbol === endOfString) return -1
    text[octets++] = symbol
  }
}

/** Decodes the last bits, fewer than 8, and holds what is left of them to be padding. */
function writeLast(text: Uint8Array, written: number, bits: number, held: number): number {
  let [octets, left] = [written, held]
  for (;;) {
    const root = roots[(bits << (rootBits - left)) & 0xff]!
    const length = root & 0xf
    if (root === 0 || length > left) break
    text[octets++] = root >>> 4
    left -= length
  }
  const ones = (1 << left) - 1
  return (bits & ones) === ones ? octets : -1
}
