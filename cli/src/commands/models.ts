import { MeshError } from '@spillway/core'
import type { ModelState } from '@spillway/model'
import type { Command } from 'commander'
import { ModelServerClient } from '../models/model-server-client.ts'
import { modelTable, problemText, trafficText } from '../models/model-table.ts'

interface Flags {
  readonly server: string
  readonly json?: boolean
}

type Traffic = ModelState['traffic']

/** Commands that talk to a running model service. */
export function defineModels(models: Command): void {
  command(models, 'list', 'every model and version').action(async (flags: Flags) => {
    const found = await new ModelServerClient(flags.server).list()
    print(flags, found, () => modelTable(found))
  })
  command(models, 'show <name>', 'one model').action(async (name: string, flags: Flags) => {
    show(flags, await new ModelServerClient(flags.server).show(name))
  })
  command(models, 'load <name>', 'load a model, or what has changed of it (explicit mode)').action(async (name: string, flags: Flags) => {
    const client = new ModelServerClient(flags.server)
    await client.load(name)
    show(flags, await client.show(name))
  })
  command(models, 'unload <name>', 'unload a model (explicit mode)')
    .option('--dependents', 'and the models that only its ensemble needed')
    .action(async (name: string, flags: Flags & { dependents?: boolean }) => {
      const client = new ModelServerClient(flags.server)
      await client.unload(name, flags.dependents === true)
      show(flags, await client.show(name))
    })
  command(models, 'promote <name> <version>', 'make a version the default one, or "latest" the newest').action(
    async (name: string, version: string, flags: Flags) => show(flags, await new ModelServerClient(flags.server).promote(name, version)),
  )
  command(models, 'rollback <name>', 'make the version the default one that was it before').action(async (name: string, flags: Flags) =>
    show(flags, await new ModelServerClient(flags.server).rollback(name)),
  )
  command(models, 'label <name> <label> [version]', 'set a label on a loaded version')
    .option('--remove', 'take the label away')
    .action(setLabel)
  command(models, 'traffic <name>', 'show or change which versions calls go to that name none')
    .option('--split <version=weight,…>', 'as in 3=90,4=10 or label:stable=9,label:canary=1; none ends it')
    .option('--shadow <version=fraction>', 'copies of a part of the calls, as in 5=0.1; none ends it')
    .action(setTraffic)
}

function command(models: Command, usage: string, description: string): Command {
  return models
    .command(usage)
    .description(description)
    .option('--server <url>', 'where the model service listens', 'http://127.0.0.1:8000')
    .option('--json', 'print JSON')
}

async function setLabel(name: string, label: string, version: string | undefined, flags: Flags & { remove?: boolean }): Promise<void> {
  if ((version === undefined) !== (flags.remove === true))
    throw new MeshError('INVALID_ARGUMENT', 'expected a version for the label, or --remove')
  const client = new ModelServerClient(flags.server)
  await client.label(name, label, version)
  show(flags, await client.show(name))
}

async function setTraffic(name: string, flags: Flags & { split?: string; shadow?: string }): Promise<void> {
  const client = new ModelServerClient(flags.server)
  const split = flags.split === undefined ? undefined : parseSplit(flags.split)
  const shadow = flags.shadow === undefined ? undefined : parseShadow(flags.shadow)
  let traffic = await client.traffic(name)
  if (split !== undefined || flags.shadow !== undefined) {
    const kept = flags.shadow === undefined ? traffic.shadow : shadow
    traffic = await client.setTraffic(name, { split: split ?? traffic.split, ...(kept !== undefined && { shadow: kept }) })
  }
  print(flags, traffic, () => `${name}: ${trafficText(traffic)}`)
}

/** @throws MeshError INVALID_ARGUMENT */
function parseSplit(text: string): Traffic['split'] {
  if (text === 'none') return []
  return text.split(',').map((part) => {
    const { to, number } = target(part) ?? {}
    if (to === undefined || number === undefined)
      throw new MeshError('INVALID_ARGUMENT', `--split ${text}: expected version=weight,…, as in 3=90,4=10, or none`, { field: '--split' })
    return { to, weight: number }
  })
}

function parseShadow(text: string): Traffic['shadow'] {
  if (text === 'none') return undefined
  const { to, number } = target(text) ?? {}
  if (to === undefined || number === undefined)
    throw new MeshError('INVALID_ARGUMENT', `--shadow ${text}: expected version=fraction, as in 5=0.1, or none`, { field: '--shadow' })
  return { to, fraction: number }
}

function target(text: string): { readonly to: string; readonly number: number } | undefined {
  const [, to, number] = /^\s*((?:label:)?[^=,\s]+)\s*=\s*(\d+(?:\.\d+)?)\s*$/.exec(text) ?? []
  return to === undefined ? undefined : { to, number: Number(number) }
}

function show(flags: Flags, model: ModelState): void {
  print(flags, model, () => `${modelTable([model])}\ntraffic: ${trafficText(model.traffic)}${problemText(model)}`)
}

function print(flags: Flags, value: unknown, text: () => string): void {
  console.log(flags.json === true ? JSON.stringify(value, null, 2) : text())
}
