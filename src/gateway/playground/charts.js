// Two small charts over time: bars for the accepted length of each iteration, a line for tokens a second.
import { shape } from "./draw.js"

const HEIGHT = 96
const LEFT = 28
const TOP = 8
const BOTTOM = 80
const MOST_BARS = 60

/** Drawn as wide as its place, so that the writing keeps its shape. @param {HTMLElement} box */
const widthOf = (box) => Math.max(160, box.clientWidth)

/** A round number not below, for the axis. @param {number} value */
const above = (value) => {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)))
  return [1, 2, 3, 5, 10].map((factor) => factor * power).find((mark) => mark >= value) ?? value
}

/** @param {HTMLElement} box @param {string} words @param {number} top @param {ReadonlyArray<SVGElement>} marks @param {string} axis */
const chart = (box, words, top, marks, axis) => {
  const width = widthOf(box)
  box.replaceChildren(
    shape("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" }, [
      shape("title", {}, [words]),
      shape("line", { class: "grid", x1: LEFT, x2: width, y1: TOP, y2: TOP }),
      shape("line", { class: "grid", x1: LEFT, x2: width, y1: BOTTOM, y2: BOTTOM }),
      shape("text", { x: LEFT - 5, y: TOP + 4, "text-anchor": "end" }, [`${top}`]),
      shape("text", { x: LEFT - 5, y: BOTTOM + 3, "text-anchor": "end" }, ["0"]),
      shape("text", { x: width - 2, y: HEIGHT - 3, "text-anchor": "end" }, [axis]),
      ...marks,
    ]),
  )
}

/** @param {HTMLElement} box @param {ReadonlyArray<number>} lengths */
export const drawAccepted = (box, lengths) => {
  const shown = lengths.slice(-MOST_BARS)
  const top = Math.max(4, ...shown)
  const step = (widthOf(box) - LEFT) / Math.max(shown.length, 30)
  const bars = shown.map((length, i) => {
    const height = Math.max(1.5, ((BOTTOM - TOP) * length) / top) // an iteration without any is a line on the floor
    return shape("rect", { class: "bar", x: LEFT + i * step, y: BOTTOM - height, width: step * 0.75, height })
  })
  chart(box, `accepted drafted tokens of the last iterations: ${shown.join(", ")}`, top, bars, "iterations")
}

/** @param {HTMLElement} box @param {ReadonlyArray<{ seconds: number, rate: number }>} points */
export const drawSpeed = (box, points) => {
  const width = widthOf(box) - LEFT
  const top = above(Math.max(1, ...points.map(({ rate }) => rate)))
  const span = Math.max(2, points.at(-1)?.seconds ?? 0)
  const path = points.map(({ seconds, rate }) => {
    const x = LEFT + (width * seconds) / span
    return `${x.toFixed(1)},${(BOTTOM - ((BOTTOM - TOP) * rate) / top).toFixed(1)}`
  })
  const last = LEFT + (width * (points.at(-1)?.seconds ?? 0)) / span
  const area = path.length === 0 ? "" : `M${LEFT},${BOTTOM} L${path.join(" L")} L${last.toFixed(1)},${BOTTOM} Z`
  const marks = [
    shape("path", { class: "area", d: area }),
    shape("polyline", { class: "line", points: path.join(" ") }),
  ]
  chart(box, `tokens a second, now ${Math.round(points.at(-1)?.rate ?? 0)}`, top, marks, `${span.toFixed(0)} s`)
}
