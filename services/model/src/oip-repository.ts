import { MeshError } from '@spillway/core'
import { type IndexLine, loadOverrides, type Models, refuseRepositoryName, repositoryIndex, unloadDependents } from '@spillway/serving'
import { type ParameterValue, readObject } from '@spillway/wire'
import type { FastifyRequest } from 'fastify'
import type { AddRoute, ModelPath } from './oip-route.ts'

const base64 = /^[A-Za-z\d+/]*={0,2}$/

/** The model repository extension. */
export function repositoryRoutes(add: AddRoute, models: Models): void {
  add('POST', '/v2/repository/index', (request, reply) => {
    const { ready = false } = readObject(body(request)).members
    if (typeof ready !== 'boolean') throw new MeshError('INVALID_ARGUMENT', '"ready" must be true or false', { field: 'ready' })
    return reply.send(repositoryIndex(models, ready).map(lineJson))
  })
  add('POST', '/v2/repository/models/:model/load', async (request, reply) => {
    const { model } = request.params as ModelPath
    await models.load(model, loadOverrides(readObject(body(request)).parameters, configText, fileContent))
    return reply.send()
  })
  add('POST', '/v2/repository/models/:model/unload', async (request, reply) => {
    const { model } = request.params as ModelPath
    await models.unload(model, { dependents: unloadDependents(readObject(body(request)).parameters) })
    return reply.send()
  })
  for (const path of ['index', 'models/:model/load', 'models/:model/unload'])
    add('POST', `/v2/repository/:repository/${path}`, (request) =>
      refuseRepositoryName((request.params as { repository: string }).repository),
    )
}

/** Of a model of which nothing was ever to be loaded, its name alone. */
function lineJson({ name, version, state, reason }: IndexLine): Partial<IndexLine> {
  return { name, ...(version !== '' && { version }), ...(state !== '' && { state, reason }) }
}

function body(request: FastifyRequest): Buffer {
  return (request.body as Buffer | undefined) ?? Buffer.alloc(0)
}

function configText(value: ParameterValue): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function fileContent(value: ParameterValue): Uint8Array | undefined {
  if (typeof value !== 'string' || value.length % 4 !== 0 || !base64.test(value)) return undefined
  return Buffer.from(value, 'base64')
}
