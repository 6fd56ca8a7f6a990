import { MeshError } from '@spillway/core'
import type { VersionPolicy } from '../config/model-config.ts'

/** Newest first. Versions are decimal, without leading zeros. */
export function newestFirst(a: string, b: string): number {
  if (a.length !== b.length) return b.length - a.length
  return a < b ? 1 : a > b ? -1 : 0
}

/** The version that a folder's or a caller's text names: `00000123` is 123. Undefined where it is no positive whole number. */
export function versionOf(text: string): string | undefined {
  if (!/^\d{1,20}$/.test(text)) return undefined
  const version = text.replace(/^0+/, '')
  return version === '' ? undefined : version
}

export interface Aspiration {
  readonly policy: VersionPolicy
  /** What the source has. */
  readonly available: readonly string[]
  /** The version that was made the default one, and stays it until another is promoted. */
  readonly promoted: string | undefined
  /** Versions that a label or the traffic names: they stay as long as the source has them. */
  readonly held: ReadonlySet<string>
}

/**
 * The versions that should be served, newest first. A promoted version counts as the newest: under `latest 1` it is the only one, so that a rollback frees
 * the version that it rolls back from, and a version that comes later waits for its promotion.
 */
export function aspiredVersions({ policy, available, promoted, held }: Aspiration): readonly string[] {
  const there = new Set(available)
  const sorted = [...there].toSorted(newestFirst)
  const chosen = new Set([...held].filter((version) => there.has(version)))
  if (promoted !== undefined && there.has(promoted)) chosen.add(promoted)
  if (policy.kind === 'latest') {
    const first = promoted !== undefined && there.has(promoted) ? [promoted] : []
    for (const version of [...first, ...sorted.filter((version) => version !== first[0])].slice(0, policy.count)) chosen.add(version)
  } else {
    const named = policy.kind === 'specific' ? new Set(policy.versions) : there
    for (const version of sorted) if (named.has(version)) chosen.add(version)
  }
  return sorted.filter((version) => chosen.has(version))
}

/** Why a model of which there are versions is not served. */
export function noneOfPolicy(model: string, versions: readonly { readonly version: string }[], policy: VersionPolicy): MeshError {
  const available = versions.map(({ version }) => version).join(', ')
  const named = policy.kind === 'specific' ? policy.versions.join(', ') : 'none of them'
  return new MeshError('NOT_FOUND', `model "${model}" has version ${available}, and its version policy names ${named}`)
}

/** A version as the policy of transitions sees it. */
export interface VersionView {
  readonly version: string
  readonly aspired: boolean
  /** `absent`: not loaded, and may be. `refused`: its load failed, and nothing says that it would not fail again. */
  readonly state: 'absent' | 'refused' | 'available'
  /** It is available, and its files are others now. */
  readonly changed: boolean
}

export interface Action {
  readonly kind: 'load' | 'unload' | 'reload'
  readonly version: string
}

/**
 * What is to be done next with a model, undefined where nothing is. Availability is preserved: what is no longer aspired goes only when a version that is
 * aspired has come as its files are now, or when none is (TensorFlow Serving's AvailabilityPreservingPolicy). Then it goes first, before another load asks for
 * memory.
 */
export function nextAction(versions: readonly VersionView[]): Action | undefined {
  const sorted = versions.toSorted((a, b) => newestFirst(a.version, b.version))
  const aspired = sorted.filter((view) => view.aspired)
  const mayGo = aspired.length === 0 || aspired.some(({ state, changed }) => state === 'available' && !changed)
  const leaving = sorted.findLast((view) => !view.aspired && view.state === 'available')
  if (leaving !== undefined && mayGo) return { kind: 'unload', version: leaving.version }
  const coming = aspired.find(({ state }) => state === 'absent')
  if (coming !== undefined) return { kind: 'load', version: coming.version }
  const changed = aspired.find((view) => view.state === 'available' && view.changed)
  return changed === undefined ? undefined : { kind: 'reload', version: changed.version }
}
