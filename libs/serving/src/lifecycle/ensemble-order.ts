import type { Seen } from './model-set.ts'
import type { ServedModel } from './served-model.ts'
import type { SourceModel } from './source.ts'

/** Names of the models that an ensemble is made of; none for what is no ensemble. */
export function stepsOf(model: SourceModel | undefined): readonly string[] {
  return model?.config?.ensemble?.map(({ model }) => model) ?? []
}

/** Ensembles that are served and made of the model, by themselves or through others; each before those that it is made of. */
export function ensemblesOf(name: string, models: Iterable<ServedModel>): readonly ServedModel[] {
  const wanted = [...models].filter(({ wanted }) => wanted)
  const found = new Set<ServedModel>()
  const visit = (step: string): void => {
    for (const model of wanted) {
      if (found.has(model) || model.name === name || !stepsOf(model.source).includes(step)) continue
      found.add(model)
      visit(model.name)
    }
  }
  visit(name)
  return outermostFirst([...found])
}

/** Each ensemble before what it is made of, so that what it has taken can be answered; what is no ensemble at the end. */
export function outermostFirst(models: readonly ServedModel[]): readonly ServedModel[] {
  const stepsOfServed = ({ source }: ServedModel): readonly string[] => stepsOf(source)
  const alone = models.toSorted((a, b) => stepsOfServed(a).length - stepsOfServed(b).length)
  return innermostFirst(alone, ({ name }) => name, stepsOfServed).toReversed()
}

/** Those that others are made of come before those others, as they are to be loaded. */
export function loadOrder(seen: readonly Seen[]): readonly Seen[] {
  return innermostFirst(
    seen,
    ({ model }) => model.name,
    ({ model }) => stepsOf(model),
  )
}

/** Ensembles may be steps of ensembles. */
function innermostFirst<T>(all: readonly T[], nameOf: (one: T) => string, stepsOf: (one: T) => readonly string[]): readonly T[] {
  const byName = new Map(all.map((one) => [nameOf(one), one]))
  const ordered: T[] = []
  const visited = new Set<T>()
  const visit = (one: T): void => {
    // One that needs itself is left for its load to refuse.
    if (visited.has(one)) return
    visited.add(one)
    for (const step of stepsOf(one)) {
      const needed = byName.get(step)
      if (needed !== undefined) visit(needed)
    }
    ordered.push(one)
  }
  for (const one of all) visit(one)
  return ordered
}
