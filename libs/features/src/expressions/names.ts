import { parse } from '@bufbuild/cel'
import { namesIn } from './types.ts'

/** Names that an expression uses; none where it is none. */
export function namesOf(source: string): readonly string[] {
  try {
    return [...namesIn(parse(source).expr)]
  } catch {
    // Compiling it says what is wrong.
    return []
  }
}
