// A line chart as SVG, for the documents. Axes are logarithmic; one that shows ratios may begin at nothing and be linear.
import { writeFileSync } from "node:fs"
import { join } from "node:path"

export interface Chart {
  readonly title: string
  readonly x: string
  readonly y: string
  readonly linear?: boolean // the y axis, from 0
  readonly series: ReadonlyArray<{ readonly name: string; readonly points: ReadonlyArray<readonly [number, number]> }>
}

const WIDTH = 760
const HEIGHT = 400
const [LEFT, RIGHT, TOP, BOTTOM] = [60, 190, 40, 50]
const COLOURS = ["#b3261e", "#0b6e4f", "#c77700", "#1f5fae", "#6a3d9a", "#444444"]

/** `file` is a path from the root. */
export const writeChart = (file: string, chart: Chart): void =>
  writeFileSync(join(import.meta.dirname, "..", file), svgOf(chart))

const svgOf = ({ title, x, y, series, linear = false }: Chart): string => {
  const points = series.flatMap(({ points }) => points)
  const across = axis(
    points.map(([x]) => x),
    LEFT,
    WIDTH - RIGHT,
  )
  const up = (linear ? linearAxis : axis)(
    points.map(([, y]) => y),
    HEIGHT - BOTTOM,
    TOP,
  )
  const grid = up.ticks.map(
    (tick) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${up.at(tick)}" y2="${up.at(tick)}" stroke="#ddd"/>${text(LEFT - 8, Number(up.at(tick)) + 4, `${tick}`, "end")}`,
  )
  const foot = [...new Set(points.map(([x]) => x))].map((tick) =>
    text(across.at(tick), HEIGHT - BOTTOM + 18, `${tick}`),
  )
  const lines = series.flatMap(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length] ?? "#000"
    const path = points.map(([x, y]) => `${across.at(x)},${up.at(y)}`)
    const dots = points.map(([x, y]) => `<circle cx="${across.at(x)}" cy="${up.at(y)}" r="3" fill="${colour}"/>`)
    const label = text(WIDTH - RIGHT + 30, TOP + 18 * i + 4, name, "start")
    const key = `<line x1="${WIDTH - RIGHT + 8}" x2="${WIDTH - RIGHT + 24}" y1="${TOP + 18 * i}" y2="${TOP + 18 * i}" stroke="${colour}" stroke-width="2"/>`
    return [
      `<polyline points="${path.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...dots,
      key,
      label,
    ]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="12" role="img" aria-label="${title}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, 22, title, "start"),
    ...grid,
    ...foot,
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x),
    `<text transform="translate(16 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">${y}</text>`,
    ...lines,
    "</svg>",
    "",
  ].join("\n")
}

const text = (x: number | string, y: number | string, words: string, anchor = "middle"): string =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`

/** From 0 to above the largest value, with at most ten ticks. */
const linearAxis = (values: ReadonlyArray<number>, from: number, to: number) => {
  const most = Math.max(...values)
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((step) => most / step <= 9) ?? 100
  const count = Math.ceil(most / step)
  const ticks = Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(3)))
  const at = (value: number) => (from + ((to - from) * value) / (count * step)).toFixed(1)
  return { at, ticks }
}

/** From the smallest to the largest value on `from` to `to`, with ticks at 1, 2 and 5. */
const axis = (values: ReadonlyArray<number>, from: number, to: number) => {
  const steps = [-3, -2, -1, 0, 1, 2, 3, 4].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power))
  const least = steps.findLast((step) => step <= Math.min(...values)) ?? 1
  const most = steps.find((step) => step >= Math.max(...values)) ?? 1
  const ticks = steps.filter((step) => step >= least && step <= most).map((step) => Number(step.toPrecision(1)))
  const at = (value: number) => (from + ((to - from) * Math.log(value / least)) / Math.log(most / least)).toFixed(1)
  return { at, ticks }
}
