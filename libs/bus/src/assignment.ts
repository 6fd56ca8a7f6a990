/**
 * Spreads partitions over members evenly (counts differ by one at most), leaving as many as it can with whoever owns them: each that moves costs
 * its new owner a fencing and what was fetched. The same input gives the same result on every member.
 */
export function assignPartitions(
  partitions: number,
  members: readonly { readonly memberId: string; readonly owned: readonly number[] }[],
): ReadonlyMap<string, readonly number[]> {
  const sorted = members.toSorted((a, b) => b.owned.length - a.owned.length || (a.memberId < b.memberId ? -1 : 1))
  const free = new Set(Array.from({ length: partitions }, (_, i) => i))
  const assigned = new Map<string, number[]>()
  const smaller = Math.floor(partitions / sorted.length)
  let larger = partitions % sorted.length
  const quotas = sorted.map(() => smaller + (larger-- > 0 ? 1 : 0))
  for (const [i, { memberId, owned }] of sorted.entries()) {
    const kept = owned.filter((partition) => free.has(partition)).slice(0, quotas[i])
    for (const partition of kept) free.delete(partition)
    assigned.set(memberId, kept)
  }
  const left = free.values()
  for (const [i, { memberId }] of sorted.entries()) {
    const taken = assigned.get(memberId)!
    while (taken.length < quotas[i]!) taken.push(left.next().value!)
    taken.sort((a, b) => a - b)
  }
  return assigned
}
