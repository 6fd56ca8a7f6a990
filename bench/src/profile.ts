// `node bench/src/profile.ts FOLDER [SCRIPT]`: where the CPU went, by the profiles that `node --cpu-prof` left there; README.md says how to make them.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Chrome DevTools Protocol, Profiler.Profile. */
interface Profile {
  readonly nodes: readonly ProfileNode[]
  readonly samples: readonly number[]
  /** µs */
  readonly timeDeltas: readonly number[]
}

interface ProfileNode {
  readonly id: number
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  readonly children?: readonly number[]
}

const lines = 30
/** Samples are 1 ms apart; what is more, the process was not let run. */
const longestUs = 2000
const notWork = new Set(['(idle)', '(root)', '(program)'])

const [folder, script = 'serving-process.ts'] = process.argv.slice(2)
if (folder === undefined) throw new Error('which folder? node bench/src/profile.ts FOLDER [SCRIPT]')

let found = false
for (const file of readdirSync(folder).filter((name) => name.endsWith('.cpuprofile'))) {
  const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Profile
  // Each process is known by the script that it was started with.
  if (!profile.nodes.some(({ callFrame }) => callFrame.url.endsWith(`/${script}`))) continue
  found = true
  print(file, profile)
}
if (!found) throw new Error(`${folder} has no profile of a process that ran ${script}`)

function print(file: string, { nodes, samples, timeDeltas }: Profile): void {
  const own = new Map<number, number>()
  for (const [i, id] of samples.entries()) own.set(id, (own.get(id) ?? 0) + Math.min(timeDeltas[i]!, longestUs))
  const parents = new Map<number, ProfileNode>()
  for (const node of nodes) for (const child of node.children ?? []) parents.set(child, node)
  const self = new Map<string, number>()
  const whole = new Map<string, number>()
  let busyUs = 0
  for (const node of nodes) {
    const us = own.get(node.id) ?? 0
    if (us === 0 || notWork.has(node.callFrame.functionName)) continue
    // A function that calls itself counts once.
    const places = new Set<string>()
    for (let at: ProfileNode | undefined = node; at !== undefined; at = parents.get(at.id)) places.add(placeOf(at))
    // What a process does once, at its start.
    if ([...places].some((place) => place.includes(' modules/') || place.includes('internal/main/run_main_module'))) continue
    busyUs += us
    self.set(placeOf(node), (self.get(placeOf(node)) ?? 0) + us)
    for (const place of places) whole.set(place, (whole.get(place) ?? 0) + us)
  }
  console.log(`${file}: ${(busyUs / 1e6).toFixed(1)} s of work after its start`)
  table('itself', self, busyUs)
  table('with what it calls', whole, busyUs)
}

function placeOf({ callFrame: { functionName, url, lineNumber } }: ProfileNode): string {
  const path = url.split('/').slice(-3).join('/')
  return `${functionName === '' ? '(anonymous)' : functionName} ${path === '' ? '' : `${path}:${lineNumber + 1}`}`
}

function table(title: string, times: ReadonlyMap<string, number>, busyUs: number): void {
  console.log(`  ${title}`)
  for (const [place, us] of [...times].sort((a, b) => b[1] - a[1]).slice(0, lines))
    console.log(`    ${((100 * us) / busyUs).toFixed(1).padStart(5)} %  ${place}`)
}
