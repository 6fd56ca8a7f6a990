/** The types of an input's fields. */
export type FieldType = 'string' | 'number' | 'integer' | 'boolean' | 'timestamp'
