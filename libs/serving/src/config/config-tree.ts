/** A setting's value as it was written: protobuf text format and JSON come to the same tree. */
export type ConfigValue =
  | { readonly kind: 'text'; readonly text: string; readonly at: number }
  /** As written: `-12`, `0x1f`, `1.5e3`. */
  | { readonly kind: 'number'; readonly text: string; readonly at: number }
  /** A name without quotes: of an enum, `true`, `false`. */
  | { readonly kind: 'word'; readonly text: string; readonly at: number }
  | ConfigMessage

export interface ConfigMessage {
  readonly kind: 'message'
  /** In the order of the file; a repeated field is there as often as it has values. */
  readonly fields: readonly ConfigField[]
  readonly at: number
}

export interface ConfigField {
  readonly name: string
  readonly value: ConfigValue
  /** Where its name stands: an offset into the source. */
  readonly at: number
}

export interface ConfigTree {
  readonly root: ConfigMessage
  /** In JSON a map is an object, in text a repeated message of `key` and `value`; and an array is one field in JSON. */
  readonly format: 'text' | 'json'
  /** As messages begin: `line 3, column 7: `; '' where the format keeps no places. */
  place(at: number): string
}

/** A file that is something else, by mistake, is not read to its end. */
export const longestConfig: number = 4 * 1024 * 1024

/** Deeper than any configuration has messages in messages. */
export const deepestConfig = 64
