import type { FastifyReply, FastifyRequest } from 'fastify'

export type ModelPath = { readonly model: string; readonly version?: string }

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Adds a route, and 405 for the other methods of its path. */
export type AddRoute = (method: 'GET' | 'POST', path: string, handler: Handler) => void
