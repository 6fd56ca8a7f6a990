import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { buildWorld, eventJson, type PlayEvent, playEvents, smallSize } from '@spillway/example-fraud'
import { parse, stringify } from 'yaml'
import { partPaths } from '../../src/tables/part-files.ts'
import { openTable } from '../../src/tables/read-table.ts'
import { Command, examplePipeline } from '../command.ts'
import { expect } from 'vitest'

/** What is known of a small world after so many days, in order. */
export function playedDays(days: number): readonly PlayEvent[] {
  const world = buildWorld(smallSize)
  const events: PlayEvent[] = []
  for (const event of playEvents(world)) {
    if (event.atMs >= world.startMs + days * 86_400_000) return events
    events.push(event)
  }
  return events
}

/** Writes events as the inputs' files. @returns the options that name them */
export function writeInputs(folder: string, events: readonly PlayEvent[]): readonly string[] {
  mkdirSync(folder, { recursive: true })
  return (['transactions', 'labels'] as const).flatMap((topic) => {
    const path = join(folder, `${topic}.ndjson`)
    const lines = events.filter((event) => event.topic === topic).map((event) => `${eventJson(event)}\n`)
    writeFileSync(path, lines.join(''))
    return ['--input', `${topic}=${path}`]
  })
}

/** The example's pipeline with changes. @returns its path */
export function writePipeline(folder: string, changes: Readonly<Record<string, unknown>>): string {
  mkdirSync(folder, { recursive: true })
  const definition = parse(readFileSync(examplePipeline, 'utf8')) as Record<string, unknown>
  const path = join(folder, 'pipeline.yaml')
  writeFileSync(path, stringify({ ...definition, models: join(examplePipeline, '..', 'models'), ...changes }))
  return path
}

/** Every row of a table as text, `id` first, sorted. */
export async function rowsOf(path: string): Promise<readonly string[]> {
  const table = await openTable(path)
  const lines: string[] = []
  for await (const rows of table.read({ texts: table.columns, numbers: [] }))
    for (let row = 0; row < rows.rowCount; row++) lines.push([...rows.texts.values()].map((values) => values[row]).join('|'))
  return lines.sort()
}

/** Lines of a folder's part files, sorted. */
export function linesOf(folder: string): readonly string[] {
  return partPaths(folder)
    .flatMap((path) => readFileSync(path, 'utf8').trimEnd().split('\n'))
    .sort()
}

/** Kills a run with a work folder after its first checkpoints. @returns whether it was killed before its end */
export function killedMidway(args: readonly string[], cwd: string, work: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<boolean> {
  return killedWhen(args, cwd, () => existsSync(work) && readdirSync(work).some((name) => /^counts-[2-9]/.test(name)), signal)
}

/** Kills a run when a condition holds. @returns whether it was killed before its end */
export async function killedWhen(
  args: readonly string[],
  cwd: string,
  due: () => boolean,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<boolean> {
  const command = new Command(args, cwd)
  for (const endMs = Date.now() + 30_000; Date.now() < endMs && !due();) await wait(2)
  return (await command.stop(signal)) !== 0
}

/** All files below a folder, with their sizes. */
export function filesIn(folder: string): readonly string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort()
}

/** Equal but for scores at a rounding edge: runtimes differ in the last bits between batch sizes. Lines are JSON, in the same order. */
export function expectSameAnswers(lines: readonly string[], expected: readonly string[]): void {
  const parse = (line: string): { readonly score: number; readonly rest: Record<string, unknown> } => {
    const { score, ...rest } = JSON.parse(line) as Record<string, unknown>
    return { score: score as number, rest }
  }
  const [own, other] = [lines.map(parse), expected.map(parse)]
  expect(own.map(({ rest }) => rest)).toEqual(other.map(({ rest }) => rest))
  own.forEach(({ score }, index) => expect(Math.abs(score - other[index]!.score)).toBeLessThan(1.5e-6))
}
