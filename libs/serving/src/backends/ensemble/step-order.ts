/**
 * Which steps each step follows at once: of those that it needs, those that no other of them needs already. Steps with no way between them may go on side by side.
 * @param needs places of the steps that each step needs, with repetitions
 * @returns `cycle`: the steps that wait for each other, where there are any
 */
export function stepOrder(
  needs: readonly (readonly number[])[],
): { readonly follows: readonly (readonly number[])[] } | { readonly cycle: readonly number[] } {
  const before: (ReadonlySet<number> | undefined)[] = needs.map(() => undefined)
  for (let found = true; found;) {
    found = false
    for (const [step, needed] of needs.entries()) {
      if (before[step] !== undefined || needed.some((other) => before[other] === undefined)) continue
      before[step] = new Set(needed.flatMap((other) => [other, ...before[other]!]))
      found = true
    }
  }
  const cycle = [...needs.keys()].filter((step) => before[step] === undefined)
  if (cycle.length > 0) return { cycle: inCycle(cycle, needs) }
  return {
    follows: needs.map((needed) =>
      [...new Set(needed)].filter((step) => !needed.some((other) => other !== step && before[other]!.has(step))),
    ),
  }
}

/** Without the steps that only wait for the cycle. */
function inCycle(waiting: readonly number[], needs: readonly (readonly number[])[]): readonly number[] {
  let left = waiting
  for (;;) {
    const needed = left.filter((step) => left.some((other) => needs[other]!.includes(step)))
    if (needed.length === left.length) return left
    left = needed
  }
}
