import type { Models, ServerIdentity } from '@spillway/serving'
import type { FastifyInstance } from 'fastify'

/** The Open Inference Protocol v2 over HTTP, below `/v2`. */
export function oipRoutes(app: FastifyInstance, models: Models, identity: ServerIdentity): void {
  app.get('/v2', (_request, reply) => reply.send({ ...identity, extensions: [] }))
  app.get('/v2/health/live', (_request, reply) => reply.send())
  app.get('/v2/health/ready', (_request, reply) => reply.code(models.ready ? 200 : 400).send())
}
