import { type Digit, side } from './held-out.ts'
import type { Prediction } from './predict.ts'

/** From here on a pixel is ink where there are only two shades. */
const ink = 0.35

/** Digits side by side in half blocks, two rows of pixels in one of text, each above what it was taken for. */
export function drawText(predictions: readonly Prediction[]): string {
  const lines: string[] = []
  for (let row = 0; row < side; row += 2)
    lines.push(
      predictions
        .map(({ digit }) => textRow(digit, row))
        .join('  ')
        .trimEnd(),
    )
  lines.push(
    predictions
      .map((prediction) => caption(prediction).padEnd(side))
      .join('  ')
      .trimEnd(),
  )
  return lines.join('\n')
}

function textRow({ pixels }: Digit, row: number): string {
  const isInk = (line: number, column: number): boolean => pixels[line * side + column]! >= ink
  let text = ''
  for (let column = 0; column < side; column++) {
    const upper = isInk(row, column)
    text += isInk(row + 1, column) ? (upper ? '█' : '▄') : upper ? '▀' : ' '
  }
  return text
}

function caption({ digit, answer, probabilities }: Prediction): string {
  const sure = `${answer} (${(100 * probabilities[answer]!).toFixed(1)} %)`
  return answer === digit.digit ? sure : `${sure}, is ${digit.digit}`
}

/** A cell of the picture, in pixels of a digit. */
const cell = { width: 44, height: 50, left: 8, top: 4 }

/** An SVG picture of the digits, `perRow` in a row: bars for the ten probabilities below each, red where the answer is wrong. */
export function drawSvg(predictions: readonly Prediction[], perRow: number): string {
  const width = perRow * cell.width
  const height = Math.ceil(predictions.length / perRow) * cell.height
  const cells = predictions.map((prediction, index) => {
    const [x, y] = [(index % perRow) * cell.width, Math.floor(index / perRow) * cell.height]
    return `<g transform="translate(${x} ${y})">${svgCell(prediction)}</g>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width * 3}" height="${height * 3}" font-family="sans-serif" font-size="5">
<rect width="100%" height="100%" fill="white"/>
${cells.join('\n')}
</svg>
`
}

function svgCell(prediction: Prediction): string {
  const { digit, answer, probabilities } = prediction
  const color = answer === digit.digit ? '#2a7' : '#d33'
  const baseline = cell.top + side + 10
  const bars = probabilities.map((probability, index) => {
    const size = Math.max(0.2, 8 * probability)
    return `<rect x="${cell.left + index * 2.8}" y="${(baseline - size).toFixed(2)}" width="2.2" height="${size.toFixed(2)}" fill="${index === answer ? color : '#bbb'}"/>`
  })
  return `<g transform="translate(${cell.left} ${cell.top})">${svgPixels(digit)}</g>${bars.join('')}<text x="${cell.left}" y="${baseline + 6}" fill="${color}">${caption(prediction)}</text>`
}

/** Neighbours of one shade as one rectangle. */
function svgPixels({ pixels }: Digit): string {
  const shade = (index: number): number => Math.round(pixels[index]! * 8)
  let text = ''
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side;) {
      const own = shade(row * side + column)
      const start = column
      while (column < side && shade(row * side + column) === own) column++
      if (own > 0) text += `<rect x="${start}" y="${row}" width="${column - start}" height="1" fill-opacity="${own / 8}"/>`
    }
  }
  return text
}
