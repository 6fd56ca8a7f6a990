import { type Code, MeshError } from '@spillway/core'
import type { Models } from '@spillway/serving'
import { HttpError, type Telemetry } from '@spillway/telemetry'
import type { FastifyInstance, FastifyRequest, HTTPMethods } from 'fastify'
import { readNoBody, readTrafficBody, readVersionBody } from './admin-bodies.ts'
import { errorHandler } from './http-errors.ts'
import { modelState } from './model-state.ts'

/** Another state of the model than the one that is asked for. */
const statuses: Partial<Readonly<Record<Code, number>>> = { FAILED_PRECONDITION: 409 }

const allMethods: readonly HTTPMethods[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']

type Answer = (path: { readonly model: string; readonly label: string }, body: Buffer | undefined) => unknown

/**
 * What the model repository extension has no words for, beside its paths: which version is the default one, labels, traffic. An extension of this server's
 * own; `services/model/README.md` has the bodies. A body is JSON with the members that are known, and no others.
 */
export function adminRoutes(app: FastifyInstance, models: Models, logger: Telemetry['logger']): void {
  void app.register((scope, _options, done) => {
    scope.setErrorHandler(errorHandler(logger, statuses))
    for (const [url, byMethod] of Object.entries(routes(models))) {
      for (const [method, answer] of Object.entries(byMethod)) {
        const handler = (request: FastifyRequest): unknown =>
          answer(request.params as { model: string; label: string }, request.body as Buffer | undefined)
        scope.route({ method, url, handler: async (request, reply) => reply.send(await handler(request)) })
      }
      refuseOthers(scope, url, Object.keys(byMethod))
    }
    done()
  })
}

function routes(models: Models): Readonly<Record<string, Readonly<Record<string, Answer>>>> {
  return {
    '/v2/repository/models': {
      GET: (_path, body) => (readNoBody(body), { models: models.names().map((name) => modelState(models, name)) }),
    },
    '/v2/repository/models/:model': { GET: ({ model }, body) => (readNoBody(body), modelState(models, model)) },
    '/v2/repository/models/:model/promote': {
      POST: async ({ model }, body) => {
        await models.promote(model, readVersionBody(body))
        return modelState(models, model)
      },
    },
    '/v2/repository/models/:model/rollback': {
      POST: async ({ model }, body) => {
        readNoBody(body)
        await models.rollback(model)
        return modelState(models, model)
      },
    },
    '/v2/models/:model/traffic': {
      GET: ({ model }) => models.traffic(model),
      PUT: ({ model }, body) => {
        models.setTraffic(model, readTrafficBody(body))
        return models.traffic(model)
      },
    },
    '/v2/models/:model/labels': { GET: ({ model }) => Object.fromEntries(models.labels(model)) },
    '/v2/models/:model/labels/:label': {
      PUT: ({ model, label }, body) => {
        models.setLabel(model, label, readVersionBody(body))
        return Object.fromEntries(models.labels(model))
      },
      DELETE: ({ model, label }) => {
        if (!models.labels(model).has(label))
          throw new MeshError('NOT_FOUND', `model "${model}" has no label "${label}"`, { field: 'label' })
        models.setLabel(model, label, undefined)
        return Object.fromEntries(models.labels(model))
      },
    },
  }
}

function refuseOthers(scope: FastifyInstance, url: string, known: readonly string[]): void {
  const allow = known.join(', ')
  scope.route({
    // HEAD comes with GET.
    method: allMethods.filter((method) => !known.includes(method)),
    url,
    handler: (request, reply) => {
      reply.header('allow', allow)
      throw new HttpError(405, `Method Not Allowed: ${request.method} ${request.url}: expected ${allow}`)
    },
  })
}
