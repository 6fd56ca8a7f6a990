import { MeshError, type Tensor, textValues } from '@spillway/core'
import { JsonWriter } from './json/json-writer.ts'
import { NestedWriter } from './json/nested-writer.ts'
import type { PredictLayout } from './tensorflow-json.ts'

type Tensors = ReadonlyMap<string, Tensor>

/** Outputs whose names end so hold bytes that are no text (api_rest, "Output of binary values"). */
const binarySuffix = '_bytes'

/**
 * `{"predictions": [...]}`, row by row, or `{"outputs": ...}`; a single output goes without its name. Floats have a decimal point or an exponent.
 * @throws MeshError INTERNAL where outputs have no common count of rows, which `predictions` needs.
 */
export function encodePrediction(outputs: Tensors, layout: PredictLayout): Uint8Array {
  const writer = new JsonWriter()
  const writers = [...outputs].map(
    ([name, tensor], index) =>
      [`${index > 0 ? ', ' : ''}${JSON.stringify(name)}: `, new NestedWriter(writer, tensor, name.endsWith(binarySuffix))] as const,
  )
  const named = writers.length !== 1
  const each = (write: (tensor: NestedWriter) => void): void => {
    if (named) writer.raw('{')
    for (const [key, tensor] of writers) {
      if (named) writer.text(key)
      write(tensor)
    }
    if (named) writer.raw('}')
  }
  if (layout === 'columns') {
    writer.raw('{"outputs": ')
    each((tensor) => tensor.all())
    writer.raw('}')
    return writer.finish()
  }
  const rows = commonRows(outputs)
  writer.raw('{"predictions": [')
  for (let row = 0; row < rows; row++) {
    if (row > 0) writer.raw(', ')
    each((tensor) => tensor.row())
  }
  writer.raw(']}')
  return writer.finish()
}

function commonRows(outputs: Tensors): number {
  let rows: number | undefined
  for (const [name, { shape }] of outputs) {
    if (shape.length === 0 || (rows !== undefined && shape[0] !== rows))
      throw new MeshError(
        'INVALID_ARGUMENT',
        `Tensor name: ${name} has inconsistent batch size: shape [${shape.join(', ')}]: ask by 'inputs', whose answer needs no common one`,
        { field: name },
      )
    rows = shape[0]
  }
  return rows ?? 0
}

/**
 * `{"results": [[[label, score], …], …]}`: of each row the scores in their order. Scores are the output `scores`, or else the only floating-point output, with
 * one dimension or none beside the row; labels the output `classes`, or else `labels` by index, or else empty.
 * @throws MeshError INVALID_ARGUMENT where the outputs are not such.
 */
export function encodeClassification(outputs: Tensors, classLabels: ReadonlyMap<string, readonly string[]>): Uint8Array {
  const [name, scores] = floatOutput(outputs, 'scores', 'Classification')
  const rows = scores.shape[0] ?? 0
  const perRow = scores.shape.length === 1 ? 1 : scores.shape[1]!
  if (scores.shape.length > 2)
    throw unsuited('Classification', `output "${name}" has shape [${scores.shape.join(', ')}]: expected [rows, classes]`)
  const classes = outputs.get('classes')
  const given = classes?.datatype === 'BYTES' && classes.data.offsets.length === rows * perRow + 1 ? textValues(classes.data) : undefined
  const byIndex = classLabels.get(name) ?? []
  const writer = new JsonWriter()
  writer.raw('{"results": [')
  for (let row = 0, i = 0; row < rows; row++) {
    writer.raw(row === 0 ? '[' : ', [')
    for (let k = 0; k < perRow; k++, i++) {
      writer.raw(k === 0 ? '[' : ', [')
      writer.string(given?.[i] ?? byIndex[k] ?? '')
      writer.raw(', ')
      writeFloat(writer, scores, i)
      writer.raw(']')
    }
    writer.raw(']')
  }
  writer.raw(']}')
  return writer.finish()
}

/**
 * `{"results": [value, …]}`, one a row: the output `outputs`, or else the only floating-point output.
 * @throws MeshError INVALID_ARGUMENT where that has not one value a row.
 */
export function encodeRegression(outputs: Tensors): Uint8Array {
  const [name, values] = floatOutput(outputs, 'outputs', 'Regression')
  const rows = values.shape[0] ?? 0
  if (values.data.length !== rows)
    throw unsuited('Regression', `output "${name}" has shape [${values.shape.join(', ')}]: expected one value a row`)
  const writer = new JsonWriter()
  writer.raw('{"results": [')
  for (let row = 0; row < rows; row++) {
    if (row > 0) writer.raw(', ')
    writeFloat(writer, values, row)
  }
  writer.raw(']}')
  return writer.finish()
}

interface FloatTensor extends Pick<Tensor, 'shape'> {
  readonly datatype: 'FP32' | 'FP64'
  readonly data: Float32Array | Float64Array
}

function isFloat(tensor: Tensor | undefined): tensor is Tensor & FloatTensor {
  return tensor?.datatype === 'FP32' || tensor?.datatype === 'FP64'
}

function floatOutput(outputs: Tensors, preferred: string, method: 'Classification' | 'Regression'): readonly [string, FloatTensor] {
  const byName = outputs.get(preferred)
  if (isFloat(byName)) return [preferred, byName]
  const floats = [...outputs].flatMap(([name, tensor]) => (isFloat(tensor) ? [[name, tensor] as const] : []))
  if (floats.length === 1) return floats[0]!
  throw unsuited(method, `${floats.length} outputs are FP32 or FP64, none of them called "${preferred}": expected one`)
}

function writeFloat(writer: JsonWriter, { datatype, data }: FloatTensor, index: number): void {
  if (datatype === 'FP32') writer.fp32(data[index]!)
  else writer.fp64(data[index]!)
}

function unsuited(method: 'Classification' | 'Regression', why: string): MeshError {
  return new MeshError('INVALID_ARGUMENT', `the model's signature is no ${method} signature: ${why}`)
}
