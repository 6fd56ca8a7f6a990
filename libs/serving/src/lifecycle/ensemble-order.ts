import type { ServedModel } from './served-model.ts'

function stepsOf({ source }: ServedModel): readonly string[] {
  return source?.config?.ensemble?.map(({ model }) => model) ?? []
}

/** Ensembles that are served and made of the model, by themselves or through others; each before those that it is made of. */
export function ensemblesOf(name: string, models: Iterable<ServedModel>): readonly ServedModel[] {
  const wanted = [...models].filter(({ wanted }) => wanted)
  const found = new Set<ServedModel>()
  const visit = (step: string): void => {
    for (const model of wanted) {
      if (found.has(model) || model.name === name || !stepsOf(model).includes(step)) continue
      found.add(model)
      visit(model.name)
    }
  }
  visit(name)
  return outermostFirst([...found])
}

/** Each ensemble before what it is made of, so that what it has taken can be answered; what is no ensemble at the end. */
export function outermostFirst(models: readonly ServedModel[]): readonly ServedModel[] {
  const byName = new Map(models.map((model) => [model.name, model]))
  const ordered = new Set<ServedModel>()
  const visit = (model: ServedModel, above: ReadonlySet<ServedModel>): void => {
    if (ordered.has(model) || above.has(model)) return
    for (const step of stepsOf(model)) {
      const needed = byName.get(step)
      if (needed !== undefined) visit(needed, new Set([...above, model]))
    }
    ordered.add(model)
  }
  for (const model of models.toSorted((a, b) => stepsOf(a).length - stepsOf(b).length)) visit(model, new Set())
  return [...ordered].toReversed()
}

/** Whether each of its models can be called; true for what is no ensemble. */
export function hasItsSteps(model: ServedModel, served: (step: string) => boolean): boolean {
  return stepsOf(model).every((step) => served(step))
}
