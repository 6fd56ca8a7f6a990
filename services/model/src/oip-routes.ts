import { type Code, MeshError } from '@spillway/core'
import {
  configJson,
  configMessage,
  extensions,
  modelMetadata,
  type Models,
  type ServerIdentity,
  statisticsJson,
  statisticsOf,
  useModel,
  versionChoice,
} from '@spillway/serving'
import { HttpError, type Telemetry } from '@spillway/telemetry'
import type { FastifyInstance, HTTPMethods } from 'fastify'
import { AppCalls } from './app-call.ts'
import type { PlaceInApp } from './call-place.ts'
import { errorHandler } from './http-errors.ts'
import type { ModelCalls } from './model-call.ts'
import { answerInfer } from './oip-infer.ts'
import { repositoryRoutes } from './oip-repository.ts'
import type { AddRoute, ModelPath } from './oip-route.ts'

/** As Triton answers: a request whose time in the queue was over, and one that found it full, may come again. */
const statuses: Partial<Readonly<Record<Code, number>>> = { RESOURCE_EXHAUSTED: 503, DEADLINE_EXCEEDED: 503 }

const inferPath = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?\/infer$/

/** Its inference requests. */
export function oipCalls(models: Models): ModelCalls {
  return {
    statuses,
    find: (path) => {
      const [, model, version = ''] = inferPath.exec(path) ?? []
      return model === undefined ? undefined : (call) => answerInfer(models, { model, version }, call)
    },
  }
}

/** The Open Inference Protocol v2 over HTTP, below `/v2`, with Triton's extensions; what is not served of them is 501. */
export function oipRoutes(
  app: FastifyInstance,
  models: Models,
  { identity, logger, place }: { identity: ServerIdentity; logger: Telemetry['logger']; place: PlaceInApp },
): void {
  void app.register((scope, _options, done) => {
    scope.setErrorHandler(errorHandler(logger, statuses))
    const add = addTo(scope)
    serverRoutes(add, models, identity)
    modelRoutes(add, models, place)
    repositoryRoutes(add, models)
    notServed(scope)
    done()
  })
}

function addTo(scope: FastifyInstance): AddRoute {
  return (method, url, handler, place) => {
    scope.route({ method, url, handler, ...(place && { onRequest: async (request, reply) => place(request, reply) }) })
    const others: HTTPMethods[] = method === 'GET' ? ['POST', 'PUT', 'PATCH', 'DELETE'] : ['GET', 'PUT', 'PATCH', 'DELETE']
    scope.route({
      method: others,
      url,
      handler: (request, reply) => {
        reply.header('allow', method)
        throw new HttpError(405, `Method Not Allowed: ${request.method} ${request.url}: expected ${method}`)
      },
    })
  }
}

function serverRoutes(add: AddRoute, models: Models, identity: ServerIdentity): void {
  add('GET', '/v2', (_request, reply) => reply.send({ name: identity.name, version: identity.version, extensions }))
  add('GET', '/v2/health/live', (_request, reply) => reply.send())
  add('GET', '/v2/health/ready', (_request, reply) => (models.ready ? reply.send() : reply.code(400).send(why(models.unready()))))
}

function why(error: string | undefined): { readonly error: string } | undefined {
  return error === undefined ? undefined : { error }
}

function modelRoutes(add: AddRoute, models: Models, place: PlaceInApp): void {
  add('GET', '/v2/models/stats', (_request, reply) => reply.send(statisticsJson(statisticsOf(models, '', ''))))
  const calls = new AppCalls()
  for (const path of ['/v2/models/:model', '/v2/models/:model/versions/:version']) {
    add('GET', path, async (request, reply) => {
      const { model, version = '' } = request.params as ModelPath
      return reply.send(await modelMetadata(models, model, version))
    })
    add('GET', `${path}/ready`, (request, reply) => {
      const { model, version = '' } = request.params as ModelPath
      if (models.isReady(model, versionChoice(version))) return reply.send()
      return reply.code(400).send(models.names().includes(model) ? why(models.unready(model)) : undefined)
    })
    add('GET', `${path}/config`, async (request, reply) => {
      const { model, version = '' } = request.params as ModelPath
      return reply.send(configJson(await useModel(models, model, version, configMessage)))
    })
    add('GET', `${path}/stats`, (request, reply) => {
      const { model, version = '' } = request.params as ModelPath
      return reply.send(statisticsJson(statisticsOf(models, model, version)))
    })
    add(
      'POST',
      `${path}/infer`,
      (request, reply) => calls.answer(request, reply, (call) => answerInfer(models, request.params as ModelPath, call)),
      place,
    )
  }
}

/** Extensions of Triton's that this server has no part for. */
function notServed(scope: FastifyInstance): void {
  const refuse = (extension: string, path: string): void => {
    scope.all(path, () => {
      throw new MeshError('UNIMPLEMENTED', `the ${extension} extension is not supported by this server`)
    })
  }
  for (const kind of ['systemsharedmemory', 'cudasharedmemory']) refuse('shared memory', `/v2/${kind}/*`)
  refuse('trace', '/v2/trace/setting')
  refuse('trace', '/v2/models/:model/trace/setting')
  refuse('logging', '/v2/logging')
  for (const path of ['/v2/models/:model', '/v2/models/:model/versions/:version'])
    for (const call of ['generate', 'generate_stream']) refuse('generate', `${path}/${call}`)
}
