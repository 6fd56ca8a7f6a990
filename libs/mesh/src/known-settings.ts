import type { z } from 'zod'

/** What a schema is made of (zod's `_zod.def`), as far as settings lie in it. */
interface Definition {
  readonly type: string
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>
  readonly innerType?: z.core.$ZodType
  readonly element?: z.core.$ZodType
  readonly valueType?: z.core.$ZodType
  readonly options?: readonly z.core.$ZodType[]
  readonly in?: z.core.$ZodType
  readonly out?: z.core.$ZodType
  readonly getter?: () => z.core.$ZodType
}

/** The settings that there may be at a path; of alternatives, those of each. */
export function knownSettings(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  const def = schema._zod.def as Definition
  const [part, ...rest] = path
  if (def.shape !== undefined) {
    if (part === undefined) return Object.keys(def.shape)
    const inner = def.shape[String(part)]
    return inner === undefined ? [] : knownSettings(inner, rest)
  }
  const below = def.element ?? def.valueType
  if (below !== undefined) return part === undefined ? [] : knownSettings(below, rest)
  const same = [def.innerType, def.getter?.(), ...(def.options ?? []), def.in, def.out].filter((inner) => inner !== undefined)
  return [...new Set(same.flatMap((inner) => knownSettings(inner, path)))]
}
