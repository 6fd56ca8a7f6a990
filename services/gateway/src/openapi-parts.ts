export type JsonObject = Readonly<Record<string, unknown>>

export const json = (schema: JsonObject): JsonObject => ({ 'application/json': { schema } })
export const ref = (name: string): JsonObject => ({ $ref: `#/components/schemas/${name}` })
export const response = (description: string, schema: JsonObject): JsonObject => ({ description, content: json(schema) })
export const errors = (...names: readonly string[]): JsonObject =>
  Object.fromEntries(names.map((name) => [name, { $ref: `#/components/responses/${name}` }]))
