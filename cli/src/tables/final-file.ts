import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** What a file is called until it is whole. */
export function partialPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.partial`)
}

/** Makes a new name in a folder survive a power cut. */
export function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

/** A file that is written under another name, and appears at its own whole or not at all. */
export class FinalFile {
  readonly path: string
  private readonly partial: string
  private descriptor: number | undefined

  constructor(path: string) {
    this.path = path
    this.partial = partialPath(path)
    mkdirSync(dirname(path), { recursive: true })
    this.descriptor = openSync(this.partial, 'w')
  }

  append(bytes: Uint8Array): void {
    let start = 0
    while (start < bytes.byteLength) start += writeSync(this.descriptor!, bytes, start)
  }

  /** On the disk, under its own name. */
  finish(): void {
    fsyncSync(this.descriptor!)
    this.close()
    renameSync(this.partial, this.path)
    syncFolder(dirname(this.path))
  }

  abandon(): void {
    this.close()
    if (existsSync(this.partial)) rmSync(this.partial)
  }

  private close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor)
    this.descriptor = undefined
  }
}
