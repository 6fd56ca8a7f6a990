import type { Stats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'

/** While a version's folder has a file of this name the version is not loaded, however long nothing moves. */
export const unfinishedMarker = '.incomplete'

/** A file of this name, written after all others, says that the version is complete: it is loaded at the first look. */
export const completeMarker = '.complete'

/** Files of a folder as one look found them. */
export interface FilesLook {
  /** Equal where names, sizes and times are. */
  readonly fingerprint: string
  readonly totalBytes: number
  /** When the file system last saw one of them changed, ms since the epoch: mtime, or ctime, which a copy that keeps times cannot set back. */
  readonly changedMs: number
  readonly unfinished: boolean
  /** The marker is there, and no file is younger than it. */
  readonly complete: boolean
}

/** More files than any version of a model has: a folder that is something else (a whole disk, by mistake) is not read to its end. */
const mostFiles = 10_000

/** @throws where the folder cannot be read. */
export async function lookAtFiles(folder: string): Promise<FilesLook> {
  const files: { name: string; stats: Stats }[] = []
  await walk(folder, '', files)
  const lines: string[] = []
  let totalBytes = 0
  let changedMs = (await stat(folder)).ctimeMs
  let newestMs = 0
  let markedMs = -1
  for (const { name, stats } of files.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (name === completeMarker) markedMs = stats.mtimeMs
    else newestMs = Math.max(newestMs, stats.mtimeMs)
    lines.push(`${name}\0${stats.size}\0${stats.mtimeMs}`)
    totalBytes += stats.size
    changedMs = Math.max(changedMs, stats.mtimeMs, stats.ctimeMs)
  }
  return {
    fingerprint: lines.join('\n'),
    totalBytes,
    changedMs,
    unfinished: files.some(({ name }) => name === unfinishedMarker),
    complete: markedMs >= newestMs,
  }
}

async function walk(root: string, below: string, files: { name: string; stats: Stats }[]): Promise<void> {
  for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
    const name = below === '' ? entry.name : `${below}${sep}${entry.name}`
    const stats = await stat(join(root, name)).catch(gone)
    if (stats?.isDirectory() === true && !entry.isSymbolicLink()) await walk(root, name, files)
    else if (stats?.isFile() === true) files.push({ name, stats })
    if (files.length > mostFiles) throw new Error(`${root} has more than ${mostFiles} files`)
  }
}

/** A file that goes between the listing and the look: the next look has the others. */
function gone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
  return undefined
}

/** What was seen of a folder before, and since when it has been so. */
export interface Settling {
  readonly fingerprint: string
  /** ms since the epoch: of the first look that found it so. */
  readonly sinceMs: number
}

/**
 * Whether a version is complete. Never while the marker of an unfinished one is there; at once where the marker of a complete one is younger than all files;
 * else when nothing has changed for `settleMs`, by the times of the file system or, where its clock goes ahead of ours, by two looks so far apart.
 */
export function isSettled(look: FilesLook, before: Settling | undefined, nowMs: number, settleMs: number): boolean {
  if (look.unfinished) return false
  if (look.complete || settleMs === 0 || look.changedMs + settleMs <= nowMs) return true
  return before !== undefined && before.fingerprint === look.fingerprint && before.sinceMs + settleMs <= nowMs
}
