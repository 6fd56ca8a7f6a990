import { wrong } from '../refusal.ts'

interface VectorName {
  readonly name: string
  /** Path that names it. */
  readonly at: string
}

/**
 * The vector's columns, in order: `customer_*` is every column, and every field of numbers, by such a name that is not there yet; `-customer_*` leaves out
 * what is there so far.
 * @throws MeshError INVALID_ARGUMENT for a pattern that nothing goes by
 */
export function vectorNames(entries: readonly string[], columns: readonly string[], fields: readonly string[]): readonly VectorName[] {
  const known = [...new Set([...columns, ...fields])]
  let names: VectorName[] = []
  entries.forEach((entry, index) => {
    const at = `vector[${index}]`
    const out = entry.startsWith('-') && !known.includes(entry)
    const pattern = out ? entry.slice(1) : entry
    if (!out && !pattern.endsWith('*')) {
      if (!names.some(({ name }) => name === pattern)) names.push({ name: pattern, at })
      return
    }
    const matches = matcher(pattern)
    if (out) {
      const kept = names.filter(({ name }) => !matches(name))
      if (kept.length === names.length) throw wrong(at, `nothing before it in the vector is called "${pattern}": it leaves out nothing`)
      names = kept
      return
    }
    const found = known.filter(matches)
    if (found.length === 0) throw wrong(at, `no column or field of numbers is called "${pattern}": choose among ${known.join(', ')}`)
    for (const name of found) if (!names.some((other) => other.name === name)) names.push({ name, at })
  })
  if (names.length === 0) throw wrong('vector', 'everything is left out: the model needs an input')
  return names
}

function matcher(pattern: string): (name: string) => boolean {
  if (!pattern.endsWith('*')) return (name) => name === pattern
  const start = pattern.slice(0, -1)
  return (name) => name.startsWith(start)
}
