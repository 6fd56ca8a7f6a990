import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { MeshError } from '@spillway/core'
import { isMap, isNode, LineCounter, parseDocument, type Document, type Node, type Pair, type Scalar } from 'yaml'
import type { z } from 'zod'
import { loadAttachments, nothingAttached } from './attachments.ts'
import { knownSettings } from './known-settings.ts'
import type { Pipeline } from './pipeline.ts'
import { compilePipeline } from './pipeline-compiler.ts'
import { type PipelineDefinition, pipelineSchema } from './pipeline-schema.ts'

export interface LoadOptions {
  /** To fit statistics: their file is not read, and the pipeline has no vector yet, see `FeaturePlan.unfitted`. */
  readonly unfitted?: boolean
}

/** Reads, checks and compiles a pipeline file, with the modules and files that it names. @throws MeshError INVALID_ARGUMENT naming file, line, path and what would be right. */
export async function loadPipeline(path: string, options: LoadOptions = {}): Promise<Pipeline> {
  let source: string
  try {
    source = await readFile(path, 'utf8')
  } catch (error) {
    throw new MeshError('INVALID_ARGUMENT', `${path}: cannot read the pipeline file: ${(error as Error).message}`, { cause: error })
  }
  const file = new PipelineFile(source, path)
  try {
    return compilePipeline(file.definition, file.folder, await loadAttachments(file.definition, file.folder, options.unfitted ?? false))
  } catch (error) {
    throw file.located(error)
  }
}

/** As `loadPipeline`, from text that names no modules and no files but models; `path` is named in errors and anchors relative paths. */
export function parsePipeline(source: string, path: string): Pipeline {
  const file = new PipelineFile(source, path)
  try {
    return compilePipeline(file.definition, file.folder, nothingAttached(file.definition))
  } catch (error) {
    throw file.located(error)
  }
}

/** A pipeline file's text, with the line of everything in it. */
class PipelineFile {
  readonly definition: PipelineDefinition
  readonly folder: string
  private readonly path: string
  private readonly document: Document
  private readonly lines = new LineCounter()

  /** @throws MeshError INVALID_ARGUMENT where it is no YAML, or not of a pipeline's form */
  constructor(source: string, path: string) {
    this.path = path
    this.folder = resolve(dirname(path))
    this.document = parseDocument(source, { lineCounter: this.lines, prettyErrors: true })
    const [syntax] = this.document.errors
    if (syntax !== undefined)
      throw new MeshError('INVALID_ARGUMENT', `${path}: not valid YAML: ${syntax.message.split('\n')[0]!.replace(/:$/, '')}`)
    const parsed = pipelineSchema.safeParse(this.document.toJS() ?? {})
    if (!parsed.success)
      throw new MeshError(
        'INVALID_ARGUMENT',
        describeIssues(parsed.error.issues, (at) => this.where(at)),
      )
    this.definition = parsed.data
  }

  /** An error that names a path in the file, with the file and the line too; any other as it is. */
  located(error: unknown): unknown {
    if (!(error instanceof MeshError) || error.field === undefined) return error
    const at = error.field.split(/[.[\]]+/).filter((part) => part !== '')
    return new MeshError('INVALID_ARGUMENT', `${this.where(at)}: ${error.field}: ${error.message}`, { cause: error, field: error.field })
  }

  private where(at: readonly PropertyKey[]): string {
    const range = nodeAt(this.document, at)?.range
    return range ? `${this.path}:${this.lines.linePos(range[0]).line}` : this.path
  }
}

type Issue = z.core.$ZodIssue

function describeIssues(issues: readonly Issue[], where: (at: readonly PropertyKey[]) => string): string {
  return issues.map((issue) => describeIssue(innermost(issue), where)).join('\n')
}

/** Of a union's branches, the one that came furthest says best what is wrong. */
function innermost(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue
  const candidates = issue.errors.flat().filter((inner) => inner.path.length > 0 || inner.code === 'unrecognized_keys')
  const [deepest] = candidates.sort((a, b) => b.path.length - a.path.length)
  return deepest === undefined ? issue : innermost({ ...deepest, path: [...issue.path, ...deepest.path] })
}

function describeIssue(issue: Issue, where: (at: readonly PropertyKey[]) => string): string {
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const at = [...issue.path, key]
    const known = knownSettings(pipelineSchema, issue.path).join(', ')
    return `${where(at)}: ${at.join('.')}: there is no such setting${known === '' ? '' : `: expected one of ${known}`}`
  }
  const at = issue.path.join('.')
  return `${where(issue.path)}: ${at === '' ? 'the file' : at}: ${issue.message}`
}

/** The node of the deepest part of `at` that stands in the file; a key's own node where it is a map's. */
function nodeAt(document: Document, at: readonly PropertyKey[]): Node | undefined {
  let node: unknown = document.contents
  let found: Node | undefined = isNode(node) ? node : undefined
  for (const part of at) {
    if (isMap(node)) {
      const pair: Pair | undefined = node.items.find((item) => String((item.key as Scalar).value) === String(part))
      if (pair === undefined) break
      found = pair.key as Node
      node = pair.value
    } else {
      const item: unknown = (node as { items?: unknown[] } | null)?.items?.[Number(part)]
      if (!isNode(item)) break
      found = item
      node = item
    }
  }
  return found
}
